"""Reads an adapter's files as the untrusted data they are: which file, its safetensors header, what would act where.

Everything but the values is judged before a weight is read, and nothing of the base is touched. Knows shapes and
names; the layers themselves are lora.py's, the settings lora_settings.py's. Standard library only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.core.errors import AdapterMismatch
from pipelines.core.specs import AdapterSpec
from pipelines.loaders.lora_settings import CONFIG, MAX_RANK, LoraSettings, json_object, read_settings

WEIGHTS = ".safetensors"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
MAX_SCALE = 1000.0  # of lora_alpha / r
MAX_HEADER = 8 * 2**20
MAX_TENSORS = 20_000
ITEM = {"F32": 4, "F16": 2, "BF16": 2}  # bytes

_PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a safetensors file; `start` and `end` in bytes from the first byte of data."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself. `data`: offset of the first byte of data; `size`: bytes of data."""

    tensors: Mapping[str, Entry]
    metadata: Mapping[str, str]
    data: int
    size: int


@dataclass(frozen=True, slots=True)
class Target:
    """A layer of the base: its A maps from `inward` and its B to `outward`; kind "other" takes no adapter."""

    kind: str  # linear | conv1d | conv2d | other
    inward: tuple[int, ...] = ()
    outward: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Pair:
    """Names of the two tensors that act on one layer, and the factor of their product."""

    layer: str
    a: str
    b: str
    scale: float


@dataclass(frozen=True, slots=True)
class AdapterFile:
    """An adapter on disk whose header is sound. `settings` is None where there is no adapter_config.json."""

    id: str
    path: Path
    header: Header
    settings: LoraSettings | None
    sha256: str = ""

    def plan(self, targets: Mapping[str, Target]) -> tuple[Pair, ...]:
        """Which tensors act on which layers of this base; raises AdapterMismatch if any does not fit."""
        settings = self.settings
        if settings is None:
            raise AdapterMismatch("adapter_no_config", id=self.id)
        pairs = pair_up(self.id, self.header.tensors)
        check_layers(self.id, settings, set(pairs), targets)
        planned = []
        for layer, (a, b) in pairs.items():
            shapes = (self.header.tensors[a].shape, self.header.tensors[b].shape)
            rank = check_shapes(self.id, layer, shapes, targets[layer])
            if rank != settings.rank_of(layer):
                raise AdapterMismatch("adapter_rank", id=self.id, layer=layer, rank=rank, said=settings.rank_of(layer))
            planned.append(Pair(layer, a, b, check_scale(self.id, settings.scale_of(layer))))
        return tuple(planned)


def open_adapter(folder: Path, spec: AdapterSpec) -> AdapterFile:
    """Read header and configuration of the adapter in a folder; raises AdapterMismatch. Reads no weights."""
    path = weights_file(folder, spec.id)
    header = read_header(path, spec.id)
    config = folder / CONFIG
    settings = read_settings(config, spec.id) if config.is_file() else None
    if settings and spec.sha256.get(CONFIG) not in (None, hashlib.sha256(config.read_bytes()).hexdigest()):
        raise AdapterMismatch("adapter_hash", id=spec.id, file=CONFIG)
    return AdapterFile(spec.id, path, header, settings, spec.sha256.get(path.name, ""))


def weights_file(folder: Path, id: str) -> Path:
    """The one safetensors file in the folder (PEFT's own name wins); raises AdapterMismatch."""
    found = sorted(path for path in folder.iterdir() if path.suffix == WEIGHTS and path.is_file())
    named = [path for path in found if path.name == "adapter_model.safetensors"]
    if named or len(found) == 1:
        return (named or found)[0]
    if found:
        raise AdapterMismatch("adapter_many_files", id=id, count=len(found))
    if any(path.suffix in PICKLES for path in folder.iterdir()):
        raise AdapterMismatch("adapter_pickle", id=id)
    raise AdapterMismatch("adapter_no_weights", id=id)


def read_header(path: Path, id: str) -> Header:
    """Parse and check a safetensors header; never reads more than MAX_HEADER bytes. Raises AdapterMismatch."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(8)
        if not first:
            raise AdapterMismatch("adapter_empty", id=id)
        if first.startswith(_PICKLE_MAGIC):
            raise AdapterMismatch("adapter_pickle", id=id)
        length = int.from_bytes(first, "little")
        if len(first) < 8 or length > MAX_HEADER:
            raise AdapterMismatch("adapter_bad_header", id=id)
        if 8 + length > size:
            raise AdapterMismatch("adapter_truncated", id=id)
        raw = json_object(file.read(length))
    if raw is None:
        raise AdapterMismatch("adapter_bad_header", id=id)
    metadata = raw.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not raw or len(raw) > MAX_TENSORS:
        raise AdapterMismatch("adapter_bad_header", id=id)
    tensors = {name: _entry(name, value, id) for name, value in raw.items()}
    data = size - 8 - length
    _check_layout(tensors.values(), data, id)
    return Header(tensors, metadata, 8 + length, data)


def _entry(name: str, value: Any, id: str) -> Entry:
    match value:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]} if all(
            isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape
        ):
            pass
        case _:
            raise AdapterMismatch("adapter_bad_header", id=id)
    if dtype not in ITEM:
        raise AdapterMismatch("adapter_dtype", id=id, dtype=dtype[:20], known=", ".join(ITEM))
    if len(name) > 400 or len(shape) > 5 or math.prod(shape) * ITEM[dtype] != end - start or start % ITEM[dtype]:
        raise AdapterMismatch("adapter_bad_header", id=id)
    return Entry(dtype, tuple(shape), start, end)


def _check_layout(entries: Iterable[Entry], size: int, id: str) -> None:
    """Tensors lie one after another and fill the file: no overlap, no gap, nothing behind."""
    at = 0
    for start, end in sorted((entry.start, entry.end) for entry in entries):
        if start != at:
            raise AdapterMismatch("adapter_bad_header", id=id)
        at = end
    if at != size:
        raise AdapterMismatch("adapter_truncated" if at > size else "adapter_bad_header", id=id)


def pair_up(id: str, tensors: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Tensor names by layer; raises AdapterMismatch for a name that is no A and no B, or lacks its other half."""
    halves: dict[str, dict[str, str]] = {}
    for name in tensors:
        layer, found, half = name.removeprefix("base_model.model.").rpartition(".lora_")
        if "magnitude" in name:
            raise AdapterMismatch("adapter_feature", id=id, feature="use_dora")
        if not found or half not in ("A.weight", "B.weight"):
            raise AdapterMismatch("adapter_unknown_tensor", id=id, name=name[:120])
        halves.setdefault(layer, {})[half[0]] = name
    for layer, pair in halves.items():
        if len(pair) < 2:
            raise AdapterMismatch("adapter_missing_tensor", id=id, layer=layer[:120], count=1)
    return {layer: (pair["A"], pair["B"]) for layer, pair in halves.items()}


def check_layers(id: str, settings: LoraSettings, given: set[str], targets: Mapping[str, Target]) -> None:
    """Raise AdapterMismatch unless the tensors are for exactly the layers of this base that the settings name."""
    wanted = {layer for layer in targets if settings.wants(layer)}
    if other := sorted(layer for layer in wanted | (given & set(targets)) if targets[layer].kind == "other"):
        raise AdapterMismatch("adapter_layer_kind", id=id, layer=other[0])
    if strange := sorted(given - wanted):
        raise AdapterMismatch("adapter_unknown_tensor", id=id, name=strange[0][:120])
    if missing := sorted(wanted - given):
        raise AdapterMismatch("adapter_missing_tensor", id=id, layer=missing[0], count=len(missing))
    if not wanted:
        raise AdapterMismatch("adapter_no_effect", id=id)


def check_shapes(id: str, layer: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], target: Target) -> int:
    """The rank of a pair whose shapes fit the layer; raises AdapterMismatch."""
    a, b = shapes
    if not a or len(b) < 2 or a[1:] != target.inward or (b[0], *b[2:]) != target.outward:
        raise AdapterMismatch("adapter_shape", id=id, layer=layer, shape=f"{a} {b}", need=_need(target))
    if a[0] != b[1] or not a[0]:
        raise AdapterMismatch("adapter_rank", id=id, layer=layer, rank=a[0], said=b[1])
    if a[0] > MAX_RANK:
        raise AdapterMismatch("adapter_rank_limit", id=id, rank=a[0], limit=MAX_RANK)
    return a[0]


def _need(target: Target) -> str:
    a = ("r", *target.inward)
    b = (target.outward[0], "r", *target.outward[1:])
    return " ".join(f"({', '.join(map(str, shape))})" for shape in (a, b))


def check_scale(id: str, scale: float) -> float:
    """The scale, if it is a sane one; raises AdapterMismatch."""
    if not math.isfinite(scale) or abs(scale) > MAX_SCALE:
        raise AdapterMismatch("adapter_absurd", id=id, limit=MAX_SCALE)
    return scale
