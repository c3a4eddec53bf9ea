"""Brings the files a card names into a local folder: from this repository, an installed wheel, or a model hub.

Knows where files come from, not what they are for. Importing this imports no library beyond the standard one.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from pipelines.core.errors import DemoError, ModelLoadFailed, Offline
from pipelines.core.registry import OnProgress
from pipelines.core.settings import Settings
from pipelines.core.specs import AdapterSpec, ModelSpec
from pipelines.core.streaming import Stop
from pipelines.loaders.hashes import verify
from pipelines.loaders.hub_files import cached_snapshot

Spec = ModelSpec | AdapterSpec


class Sources:
    """`fetch` is what a Registry is given; `missing` says without doing anything why it would fail."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def fetch(self, spec: Spec, *, stop: Stop, progress: OnProgress) -> Path:
        """A local folder, or the file itself for sources of one file. Downloads and converts at most once.

        Raises ModelLoadFailed and Offline, each naming what is missing and why; Cancelled, TimedOut.
        """
        stop.check()
        self._require(spec)
        scheme, _, name = spec.source.partition(":")
        if scheme == "dir":
            path = self._local(name)
            if isinstance(spec, ModelSpec):  # an adapter's file is hashed where it is read, once
                verify(path, spec.sha256, stop)
            return path
        if scheme == "pip":
            return self._packaged(name, spec, stop, progress)
        return self._from_hub(name, spec, stop, progress)

    def missing(self, spec: Spec) -> DemoError | None:
        """Why it could not be used right now, or None; looks at this disk only."""
        scheme, _, name = spec.source.partition(":")
        try:
            self._require(spec)
            if scheme == "dir":
                self._local(name)
            elif scheme == "pip":
                _parts(spec) or _resource(name)
            elif self._settings.offline and cached_snapshot(self._settings.cache, name, spec) is None:
                return Offline("offline_not_cached", repo=name)
        except DemoError as error:
            return error
        return None

    def here(self, spec: Spec) -> bool:
        """True if its files are on this disk, so that using it needs no network."""
        scheme, _, name = spec.source.partition(":")
        return scheme != "hf" or cached_snapshot(self._settings.cache, name, spec) is not None

    def _require(self, spec: Spec) -> None:
        for module in spec.requires if isinstance(spec, ModelSpec) else ():
            if not _installed(module):
                raise ModelLoadFailed("package_missing", id=spec.id, package=module)

    def _local(self, name: str) -> Path:
        """A path in this repository, or, for what a visitor uploaded or trained, in the cache."""
        settings = self._settings
        path = (settings.root / name).resolve()
        allowed = settings.cache if Path(name).is_absolute() else settings.root
        if not path.is_relative_to(allowed.resolve()) or not path.exists():
            raise ModelLoadFailed("source_missing", source=Path(name).name)
        return path

    def _packaged(self, name: str, spec: Spec, stop: Stop, progress: OnProgress) -> Path:
        if parts := _parts(spec):
            from pipelines.loaders.joining import joined

            return joined(parts, self._settings.cache / "joined", known=spec.sha256, stop=stop)
        path = _resource(name)
        if path.suffix != ".gguf":
            verify(path, spec.sha256, stop)
            return path
        from pipelines.loaders.gguf import converted

        return converted(path, self._settings.cache / "gguf", known=spec.sha256, stop=stop, progress=progress)

    def _from_hub(self, repo: str, spec: Spec, stop: Stop, progress: OnProgress) -> Path:
        if folder := cached_snapshot(self._settings.cache, repo, spec):
            return folder
        if self._settings.offline:
            raise Offline("offline_not_cached", repo=repo)
        from pipelines.loaders.hub import Hub

        return Hub(self._settings.hub_endpoint, self._settings.cache).fetch(repo, spec, stop=stop, progress=progress)


def _installed(module: str) -> bool:
    """Whether the distribution is there; only its top level is looked for, so nothing is imported."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def _parts(spec: Spec) -> dict[str, list[Path]]:
    """Option `join` of a card: by the file to be made, the parts it was cut into for the package index, in order."""
    declared = spec.options.get("join", {}) if isinstance(spec, ModelSpec) else {}
    return {file: [_resource(part) for part in parts] for file, parts in declared.items()}


def _resource(name: str) -> Path:
    """The file "module/path" inside an installed package, which is found but not imported."""
    module, _, inside = name.partition("/")
    spec = importlib.util.find_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / inside).is_file():
            return path
    raise ModelLoadFailed("package_missing", id=inside, package=module)
