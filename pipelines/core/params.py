"""One declaration per knob: `knob(...)` on a field of a frozen Params dataclass.

From it are made the widget, the check, the REST schema, the command-line flags and the tool schema for a language
model. Knows no task and no framework: a picture or a sound is whatever media.py decoded.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from pipelines.core.errors import InvalidInput
from pipelines.core.specs import AdapterUse

P = TypeVar("P")

MAX_TEXT = 8_000  # characters in one prompt
MAX_ADAPTERS = 4  # in one request
KINDS = ("text", "number", "choice", "switch", "image", "images", "audio", "messages", "adapters", "model", "seed")
MEDIA = ("image", "images", "audio")
_KEY = "knob"


@dataclass(frozen=True, slots=True)
class Knob:
    """What is known of one field of a Params class; `name` is also the key of its label in the locale file."""

    name: str
    type: Any
    default: Any  # dataclasses.MISSING where the field is required
    kind: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    max_length: int = MAX_TEXT
    advanced: bool = False  # shown under "more settings"
    lines: int = 1  # height of a text box

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING


def knob(
    default: Any = dataclasses.MISSING,
    *,
    kind: str = "",
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    choices: tuple[str, ...] = (),
    **more: Any,
) -> Any:
    """Declare one field of a Params class. `kind` is one of KINDS; left out, it follows from the field's type."""
    declared = {"kind": kind, "low": low, "high": high, "step": step, "choices": choices, **more}
    if isinstance(default, list | dict | set):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata={_KEY: declared})
    return dataclasses.field(default=default, metadata={_KEY: declared})


def model_knob() -> Any:
    """The model to use; empty means the task's default."""
    return knob("", kind="model", max_length=200)


def adapters_knob() -> Any:
    """Adapters with their weights, applied together: at most MAX_ADAPTERS."""
    return knob((), kind="adapters", low=-2.0, high=2.0, step=0.05)


def seed_knob() -> Any:
    """The seed of every random draw; -1 asks for a fresh one, which the result then shows."""
    return knob(-1, kind="seed", low=-1, high=2**31 - 1, step=1, advanced=True)


def knobs(cls: type) -> tuple[Knob, ...]:
    """The knobs of a Params class, in the order they are declared."""
    return _knobs(cls)


@lru_cache(maxsize=64)
def _knobs(cls: type) -> tuple[Knob, ...]:
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        declared = dict(field.metadata[_KEY])
        kind = declared.pop("kind") or _kind(hints[field.name], declared["choices"])
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append(Knob(name=field.name, type=hints[field.name], default=default, kind=kind, **declared))
    return tuple(found)


def _kind(hint: Any, choices: tuple[str, ...]) -> str:
    if choices:
        return "choice"
    if hint is bool:
        return "switch"
    if hint in (int, float):
        return "number"
    if hint is str:
        return "text"
    raise TypeError(f"say kind= for a field of type {hint!r}")


Violation = tuple[str, dict[str, Any]]


def check(params: Any) -> None:
    """Raise InvalidInput with every violation of the declared limits at once."""
    _refuse([found for each in knobs(type(params)) for found in _violations(each, getattr(params, each.name))])


def _refuse(found: list[Violation]) -> None:
    if found:
        code, details = found[0]
        raise InvalidInput(code, violations=tuple(found), **details)


def _violations(knob: Knob, value: Any) -> list[Violation]:
    if knob.kind in ("text", "model"):
        if not isinstance(value, str):
            return [("wrong_type", {"name": knob.name, "wanted": "text"})]
        if knob.required and not value.strip():
            return [("empty", {"name": knob.name})]
        if len(value) > knob.max_length:
            return [("too_long", {"name": knob.name, "length": len(value), "limit": knob.max_length})]
    elif knob.kind in ("number", "seed"):
        return _number_violations(knob, value)
    elif knob.kind == "choice" and value not in knob.choices:
        return [("not_a_choice", {"name": knob.name, "value": str(value)[:80], "known": ", ".join(knob.choices)})]
    elif knob.kind == "switch" and not isinstance(value, bool):
        return [("wrong_type", {"name": knob.name, "wanted": "true or false"})]
    elif knob.kind == "adapters":
        return _adapter_violations(knob, value)
    elif knob.kind == "messages":
        return _message_violations(knob, value)
    elif knob.kind in MEDIA and knob.required and (value is None or (knob.kind == "images" and not value)):
        return [("empty", {"name": knob.name})]
    return []


def _number_violations(knob: Knob, value: Any) -> list[Violation]:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        return [("wrong_type", {"name": knob.name, "wanted": "a number"})]
    if knob.type is int and not isinstance(value, int):
        return [("wrong_type", {"name": knob.name, "wanted": "a whole number"})]
    if (knob.low is not None and value < knob.low) or (knob.high is not None and value > knob.high):
        return [("out_of_range", {"name": knob.name, "value": value, "low": knob.low, "high": knob.high})]
    return []


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


def _adapter_violations(knob: Knob, value: Any) -> list[Violation]:
    if len(value) > MAX_ADAPTERS:
        return [("too_many_adapters", {"limit": MAX_ADAPTERS})]
    if len({use.id for use in value}) < len(value):
        return [("adapter_twice", {"name": knob.name})]
    return [
        ("out_of_range", {"name": use.id, "value": use.weight, "low": knob.low, "high": knob.high})
        for use in value
        if not math.isfinite(use.weight) or not -2.0 <= use.weight <= 2.0
    ]


def _message_violations(knob: Knob, value: Any) -> list[Violation]:
    if knob.required and not value:
        return [("empty", {"name": knob.name})]
    length = sum(len(message.get("content", "")) for message in value)
    if length > 8 * knob.max_length or len(value) > 200:
        return [("too_long", {"name": knob.name, "length": length, "limit": 8 * knob.max_length})]
    last = value[-1]["content"] if value else "-"
    if knob.required and not last.strip():
        return [("empty", {"name": knob.name})]
    if len(last) > knob.max_length:
        return [("too_long", {"name": knob.name, "length": len(last), "limit": knob.max_length})]
    return []


def build(cls: type[P], raw: Mapping[str, Any], decode: Callable[[str, Any], Any] | None = None) -> P:
    """Make and check a Params from what a door received (JSON values or strings).

    `decode(kind, value)` turns foreign bytes into a picture or a sound; it is media.py's. Raises InvalidInput.
    """
    known = {each.name: each for each in knobs(cls)}
    if unknown := sorted(set(raw) - set(known)):
        raise InvalidInput("unknown_parameter", name=str(unknown[0])[:80], known=", ".join(known))
    values: dict[str, Any] = {}
    unreadable: list[InvalidInput] = []
    for name, each in known.items():
        try:
            values[name] = _received(each, raw.get(name), decode)
        except InvalidInput as error:
            unreadable.append(error)
    found = [found for name in values for found in _violations(known[name], values[name])]
    if len(unreadable) == 1 and not found:
        raise unreadable[0]
    _refuse([*(violation for error in unreadable for violation in error.violations), *found])
    return cls(**values)


def _received(knob: Knob, given: Any, decode: Callable[[str, Any], Any] | None) -> Any:
    if given is None:
        return knob.default if not knob.required else {"text": "", "messages": (), "images": ()}.get(knob.kind)
    if knob.kind in MEDIA and decode is not None:
        return decode(knob.kind, given)
    return coerce(knob, given)


def coerce(knob: Knob, value: Any) -> Any:
    """The value in the field's type; where that would lose something, the value itself, which check() then names.

    Raises InvalidInput for what cannot be read at all.
    """
    try:
        if knob.kind in ("number", "seed"):
            return _as_number(value, whole=knob.type is int)
        if knob.kind == "switch" and value in ("true", "false", "1", "0", 1, 0):
            return value in ("true", "1", 1)
        if knob.kind == "adapters":
            return tuple(_as_use(item) for item in _as_list(value))
        if knob.kind == "messages":
            return tuple(_as_message(item) for item in _as_list(value))
    except (TypeError, ValueError, KeyError, OverflowError):
        raise InvalidInput("wrong_type", name=knob.name, wanted=knob.kind) from None
    return value


def _as_number(value: Any, *, whole: bool) -> Any:
    if isinstance(value, bool):
        return value
    number = float(value)
    return int(number) if whole and number.is_integer() else number if not whole else value


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, str | Mapping):
        raise TypeError(value)
    return list(value)


def _as_use(item: Any) -> AdapterUse:
    """From AdapterUse, {"id":…, "weight":…}, ["id", weight] or "id:weight"."""
    if isinstance(item, AdapterUse):
        return item
    if isinstance(item, Mapping):
        return AdapterUse(str(item["id"]), float(item.get("weight", 1.0)))
    if isinstance(item, str):
        id, _, weight = item.partition(":")
        return AdapterUse(id, float(weight) if weight else 1.0)
    id, weight = item
    return AdapterUse(str(id), float(weight))


def _as_message(item: Any) -> dict[str, str]:
    role, content = item["role"], item["content"]
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        raise ValueError(role)
    return {"role": role, "content": content}


_JSON_TYPES = {"text": "string", "model": "string", "choice": "string", "switch": "boolean", "image": "string"}


def json_schema(cls: type) -> dict[str, Any]:
    """A JSON schema of a Params class, for REST documentation and for a language model's tools."""
    properties: dict[str, Any] = {}
    for each in knobs(cls):
        is_list = each.kind in ("images", "messages", "adapters")
        whole = each.type is int or each.kind == "seed"
        fallback = "array" if is_list else "string" if each.kind == "audio" else "integer" if whole else "number"
        schema: dict[str, Any] = {"type": _JSON_TYPES.get(each.kind, fallback)}
        if each.choices:
            schema["enum"] = list(each.choices)
        if each.kind in ("number", "seed"):
            schema |= {k: v for k, v in (("minimum", each.low), ("maximum", each.high)) if v is not None}
        if each.kind == "text":
            schema["maxLength"] = each.max_length
        if not each.required:
            schema["default"] = list(each.default) if isinstance(each.default, tuple) else each.default
        properties[each.name] = schema
    required = [each.name for each in knobs(cls) if each.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def add_arguments(parser: argparse.ArgumentParser, cls: type, *, positional: tuple[str, ...] = ()) -> None:
    """Command-line flags for every knob; names in `positional` become positional arguments.

    Values stay strings, so that build() judges them by the same rules as every other door.
    """
    for each in knobs(cls):
        many = each.kind in ("images", "adapters")
        if each.name in positional:
            parser.add_argument(each.name, nargs=("+" if each.required else "*") if many else None)
            continue
        flag = "--" + ("adapter" if each.kind == "adapters" else each.name.replace("_", "-"))
        if each.kind == "switch":
            parser.add_argument(flag, dest=each.name, action=argparse.BooleanOptionalAction, default=None)
        elif each.kind == "messages":
            parser.add_argument(flag, dest=each.name, type=json.loads, help="JSON list of {role, content}")
        else:
            parser.add_argument(flag, dest=each.name, action="append" if many else "store", help=_help(each))


def _help(knob: Knob) -> str:
    if knob.choices:
        return " | ".join(knob.choices)
    limits = f"{knob.low:g} to {knob.high:g}" if knob.low is not None and knob.high is not None else ""
    default = "" if knob.required or knob.default in ("", (), None) else f"default {knob.default}"
    return ", ".join(part for part in (limits, default) if part)
