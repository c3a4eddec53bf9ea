"""Files that must be exactly those a card names. Knows nothing of where they came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pipelines.core.errors import ModelLoadFailed
from pipelines.core.streaming import Stop

_PIECE = 2**20


def verify(path: Path, known: Mapping[str, str], stop: Stop) -> None:
    """Compare a file, or the files of a folder, with the SHA-256 known by name; raises ModelLoadFailed."""
    for name, expected in known.items():
        file = path / name if path.is_dir() else path
        if not file.is_file() or sha256_of(file, stop) != expected:
            raise ModelLoadFailed("file_changed", file=file.name)


def sha256_of(path: Path, stop: Stop) -> str:
    """Hex digest of a file; raises Cancelled, TimedOut."""
    digest = hashlib.sha256()
    with path.open("rb") as source:
        while piece := source.read(_PIECE):
            stop.check()
            digest.update(piece)
    return digest.hexdigest()
