"""A Result as JSON values, for REST and the command line. Files in it (PNG, WAV, arrays) go to the caller's `save`."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

KINDS = ((b"\x89PNG", "png"), (b"RIFF", "wav"), (b"\x93NUMPY", "npy"))

Save = Callable[[bytes, str], Any]


def plain(value: Any, save: Save) -> Any:
    """Dataclasses become objects, tuples lists, arrays .npy files; `save(data, ending)` says what stands for a file."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), save) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item, save) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, save) for item in value]
    if isinstance(value, bytes):
        return save(value, ending(value))
    if isinstance(value, np.ndarray):
        return save(_npy(value), "npy")
    if isinstance(value, np.generic):
        return plain(value.item(), save)
    if isinstance(value, Path):
        return value.name
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def ending(data: bytes) -> str:
    """A file name's ending by content."""
    return next((name for magic, name in KINDS if data.startswith(magic)), "bin")


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()
