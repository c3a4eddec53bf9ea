"""The catalogue: every model and adapter there is to ask for, read from TOML files and checked at start.

Knows what is declared, not what is loaded or installed.
"""

from __future__ import annotations

import dataclasses
import threading
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pipelines.core.errors import InvalidInput, UnknownModel
from pipelines.core.specs import TASKS, TIERS, AdapterSpec, ModelSpec

S = TypeVar("S", ModelSpec, AdapterSpec)


class CatalogError(ValueError):
    """A card is wrong; the message names file and key. Raised at start, for the engineer who wrote the card."""


class Catalog:
    """All cards by id. Adapters may be added while running (uploads, trained in the app); models may not."""

    def __init__(self, models: Iterable[ModelSpec], adapters: Iterable[AdapterSpec] = ()) -> None:
        self._models = {spec.id: spec for spec in models}
        self._adapters: dict[str, AdapterSpec] = {}
        self._lock = threading.Lock()
        for task in TASKS:
            defaults = [spec.id for spec in self._models.values() if spec.default and spec.task == task]
            if len(defaults) > 1:
                files = ", ".join(f"models/{id}.toml" for id in defaults)
                raise CatalogError(f"{files}: default: only one model of {task} may be the default")
        for adapter in adapters:
            if adapter.base not in self._models:
                raise CatalogError(f"adapters/{adapter.id}.toml: base: no model {adapter.base!r}")
            if adapter.id in self._models:
                raise CatalogError(f"adapters/{adapter.id}.toml: id: a model has the same name")
            self._adapters[adapter.id] = adapter

    @classmethod
    def read(cls, folder: Path) -> Catalog:
        """Read `folder`/models/*.toml and `folder`/adapters/*.toml; raises CatalogError."""
        models = [_read(path, ModelSpec) for path in sorted((folder / "models").glob("*.toml"))]
        adapters = [_read(path, AdapterSpec) for path in sorted((folder / "adapters").glob("*.toml"))]
        return cls(models, adapters)

    def model(self, id: str) -> ModelSpec:
        """The card of that id; raises UnknownModel, which lists the known ids."""
        try:
            return self._models[id]
        except KeyError:
            raise UnknownModel("unknown_model", id=id[:80], known=", ".join(sorted(self._models))) from None

    def adapter(self, id: str, visitor: str | None = None) -> AdapterSpec:
        """The card of that id; another visitor's upload is as unknown as a missing one."""
        spec = self._adapters.get(id)
        if spec is None or (visitor is not None and spec.owner and spec.owner != visitor):
            known = sorted(a.id for a in self._adapters.values() if not a.owner or a.owner == visitor)
            raise UnknownModel("unknown_adapter", id=id[:80], known=", ".join(known) or "–")
        return spec

    def models(self, task: str | None = None) -> tuple[ModelSpec, ...]:
        """Cards a person may choose for a task (or all cards), starter tier first, the default before its peers."""
        chosen = (spec for spec in self._models.values() if task is None or (spec.serves(task) and not spec.part))
        return tuple(sorted(chosen, key=lambda s: (TIERS.index(s.tier), not s.default, s.size_mb, s.id)))

    def adapters(self, base: str | None = None, visitor: str | None = None) -> tuple[AdapterSpec, ...]:
        """Cards for a base (or all) that this visitor may use."""
        return tuple(
            spec
            for spec in list(self._adapters.values())
            if (base is None or spec.base == base) and (not spec.owner or spec.owner == visitor)
        )

    def uploads(self) -> tuple[AdapterSpec, ...]:
        """The adapters visitors brought, whoever owns them."""
        return tuple(spec for spec in list(self._adapters.values()) if spec.owner)

    def default(self, task: str) -> ModelSpec:
        """The model a task starts with: its declared default, else the smallest of the lowest tier."""
        models = self.models(task)
        if not models:
            raise UnknownModel("no_model_for_task", task=task)
        return next((spec for spec in models if spec.default), models[0])

    def for_task(self, task: str, id: str = "") -> ModelSpec:
        """The model asked for, or the task's default; raises InvalidInput if it serves another task."""
        if not id:
            return self.default(task)
        spec = self.model(id)
        if not spec.serves(task) or spec.part:
            known = ", ".join(s.id for s in self.models(task))
            raise InvalidInput("wrong_task", id=id, task=task, known=known)
        return spec

    def add_adapter(self, spec: AdapterSpec) -> None:
        """Take an adapter into the catalogue of this process; raises UnknownModel for a missing base."""
        self.model(spec.base)
        with self._lock:
            self._adapters[spec.id] = spec

    def remove_adapter(self, id: str) -> None:
        with self._lock:
            self._adapters.pop(id, None)


def _read(path: Path, kind: type[S]) -> S:
    where = f"{path.parent.name}/{path.name}"
    try:
        raw: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of TOML, or of UTF-8
        raise CatalogError(f"{where}: {error}") from error
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(set(raw) - set(fields) | {"id", "owner"} & set(raw)):
        raise CatalogError(f"{where}: unknown key {unknown[0]!r}")
    missing = [
        name
        for name, field in fields.items()
        if name not in {*raw, "id"}
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise CatalogError(f"{where}: missing key {missing[0]!r}")
    spec = kind(id=path.stem, **{key: _freeze(value) for key, value in raw.items()})
    _check(spec, where)
    return spec


_KINDS: Mapping[str, tuple[Any, str]] = {  # by the annotation of the field
    "str": (str, "a text"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "bool": (bool, "true or false"),
    "tuple": (tuple, "a list"),
    "Mapping": (Mapping, "a table"),
}


def _freeze(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_freeze(item) for item in value)
    if isinstance(value, dict):
        return MappingProxyType({key: _freeze(item) for key, item in value.items()})
    return value


def _check(spec: ModelSpec | AdapterSpec, where: str) -> None:
    def need(ok: bool, key: str, why: str) -> None:
        if not ok:
            raise CatalogError(f"{where}: {key}: {why}")

    for field in dataclasses.fields(spec):
        kind, wanted = _KINDS[str(field.type).split("[")[0]]
        value = getattr(spec, field.name)
        need(isinstance(value, kind) and (kind is bool or not isinstance(value, bool)), field.name, f"must be {wanted}")
    need({"en", "zh"} <= set(spec.title), "title", "needs en and zh")
    need(not spec.note or {"en", "zh"} <= set(spec.note), "note", "needs en and zh")
    need(spec.source.split(":")[0] in {"hf", "dir", "pip"}, "source", "starts with hf:, dir: or pip:")
    need(not spec.revision or _is_hex(spec.revision, 40), "revision", "a commit of 40 hex digits, or left out")
    need(spec.size_mb > 0, "size_mb", "must be positive")
    need(not spec.scores or bool(spec.scores_command), "scores_command", "scores need the command that made them")
    need(all(_is_hex(digest, 64) for digest in spec.sha256.values()), "sha256", "64 hex digits each")
    if isinstance(spec, ModelSpec):
        need({spec.task, *spec.also} <= set(TASKS), "task", f"one of {', '.join(TASKS)}")
        need(spec.tier in TIERS, "tier", f"one of {', '.join(TIERS)}")
        need(bool(spec.languages), "languages", "at least one")
    else:
        need(-2 <= spec.weight <= 2, "weight", "between -2 and 2")


def _is_hex(text: object, digits: int) -> bool:
    return isinstance(text, str) and len(text) == digits and set(text) <= set("0123456789abcdef")
