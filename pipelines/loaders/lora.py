"""A bank of LoRA adapters beside a network: resident ones are just their tensors, active ones a hook per layer.

No layer is wrapped or replaced, so making one ready costs little more than reading its file, and the base without
active adapters is the base. Knows torch layers; files and their checks are adapter_files.py's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.utils.hooks import RemovableHandle

from pipelines.core.errors import AdapterMismatch
from pipelines.core.registry import Attachment
from pipelines.core.specs import AdapterSpec, AdapterUse
from pipelines.loaders.adapter_files import AdapterFile, Target, open_adapter

HOW = "hot swap"  # shown in the registry's status
MAX_VALUE = 1000.0  # of any weight of an adapter; trained ones stay below 10

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Delta:
    """What one adapter adds to one layer: scale * B(A(x)); `a` [rank, in, ...], `b` [out, rank, ...]."""

    layer: str
    a: Tensor
    b: Tensor
    scale: float


class LoraBank:
    """Adapters of one network. Not for concurrent use: the registry leases a model with adapters exclusively."""

    def __init__(self, network: nn.Module) -> None:
        self._layers = dict(network.named_modules())
        self._resident: dict[str, tuple[Delta, ...]] = {}
        self._active: dict[str, float] = {}
        self._hooks: list[RemovableHandle] = []

    @cached_property
    def targets(self) -> Mapping[str, Target]:
        """Every layer by name, and what an adapter on it would have to look like."""
        return {name: _target(layer) for name, layer in self._layers.items() if name}

    @property
    def device(self) -> torch.device:
        return next((p.device for p in self._layers[""].parameters()), torch.device("cpu"))

    def check(self, spec: AdapterSpec, folder: Path) -> None:
        """Raise AdapterMismatch if files and shapes do not fit; reads headers only."""
        open_adapter(folder, spec).plan(self.targets)

    def attach(self, spec: AdapterSpec, folder: Path) -> Attachment:
        """Make a PEFT LoRA resident, inactive. Raises AdapterMismatch, and then nothing has changed."""
        opened = open_adapter(folder, spec)
        pairs = opened.plan(self.targets)
        tensors = read_tensors(opened, self.device)
        deltas = [Delta(p.layer, tensors[p.a], tensors[p.b], p.scale) for p in pairs]
        check_effect(spec.id, deltas)
        return Attachment(self.add(spec.id, deltas), HOW)

    def add(self, id: str, deltas: Iterable[Delta]) -> int:
        """Take checked tensors on the network's device as a resident adapter, inactive; the bytes they hold."""
        self.detach(id)
        self._resident[id] = tuple(deltas)
        return _size(self._resident[id])

    def activate(self, uses: tuple[AdapterUse, ...]) -> None:
        """Let exactly these resident adapters act; weight 0 is the same as not at all."""
        wanted = {use.id: use.weight for use in uses if use.weight and use.id in self._resident}
        if wanted == self._active:
            return
        self._silence()
        acting: dict[str, list[Delta]] = {}
        for id, weight in wanted.items():
            for delta in self._resident[id]:
                acting.setdefault(delta.layer, []).append(self._fitted(delta, weight))
        for name, deltas in acting.items():
            layer = self._layers[name]
            self._hooks.append(layer.register_forward_hook(_hook(layer, deltas)))
        self._active = wanted

    def detach(self, id: str) -> None:
        """Drop a resident adapter and its bytes; if it was acting, it stops."""
        if id in self._active:
            self._silence()
        self._resident.pop(id, None)

    def clear(self) -> None:
        """Drop all adapters and let go of the network."""
        self._silence()
        self._resident.clear()
        self._layers = {}
        self.__dict__.pop("targets", None)

    def _silence(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._active = {}

    def _fitted(self, delta: Delta, weight: float) -> Delta:
        """In the layer's own number format, for as long as it acts."""
        dtype = self._layers[delta.layer].weight.dtype
        return Delta(delta.layer, delta.a.to(dtype), delta.b.to(dtype), delta.scale * weight)


def read_tensors(opened: AdapterFile, device: torch.device) -> dict[str, Tensor]:
    """The file's tensors on a device, all of them views of one block of the file's size; raises AdapterMismatch."""
    header = opened.header
    data = torch.empty(header.size, dtype=torch.uint8)
    with opened.path.open("rb") as file:
        head = file.read(header.data)
        if file.readinto(memoryview(data.numpy())) != header.size:
            raise AdapterMismatch("adapter_truncated", id=opened.id)
    if opened.sha256:
        digest = hashlib.sha256(head)
        digest.update(memoryview(data.numpy()))
        if digest.hexdigest() != opened.sha256:
            raise AdapterMismatch("adapter_hash", id=opened.id, file=opened.path.name)
    formats = {entry.dtype for entry in header.tensors.values()}
    if len(formats) == 1:
        check_values(opened.id, [data.view(_DTYPES[formats.pop()])])
    data = data.to(device)
    tensors = {
        name: data[entry.start : entry.end].view(_DTYPES[entry.dtype]).view(entry.shape)
        for name, entry in header.tensors.items()
    }
    if formats:
        check_values(opened.id, tensors.values())
    return tensors


def check_values(id: str, tensors: Iterable[Tensor]) -> None:
    """Raise AdapterMismatch for NaN, infinity or absurdly large numbers; one pass over each tensor."""
    for tensor in tensors:
        if not tensor.numel():
            continue
        low, high = (float(value) for value in torch.aminmax(tensor))
        if not (low > -float("inf") and high < float("inf")):  # false for NaN, which aminmax passes on
            raise AdapterMismatch("adapter_not_finite", id=id)
        if max(-low, high) > MAX_VALUE:
            raise AdapterMismatch("adapter_absurd", id=id, limit=MAX_VALUE)


def check_effect(id: str, deltas: Iterable[Delta]) -> None:
    """Raise AdapterMismatch for an adapter that would change nothing: every product is zero."""
    if not any(delta.scale and delta.a.any() and delta.b.any() for delta in deltas):
        raise AdapterMismatch("adapter_no_effect", id=id)


def _target(layer: nn.Module) -> Target:
    if isinstance(layer, nn.Linear) and not isinstance(layer, NonDynamicallyQuantizableLinear):
        return Target("linear", (layer.in_features,), (layer.out_features,))
    if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.dilation == (1, 1):
        return Target("conv2d", (layer.in_channels, *layer.kernel_size), (layer.out_channels, 1, 1))
    if type(layer).__name__ == "Conv1D" and getattr(layer, "weight", None) is not None:  # GPT-2's transposed linear
        inward, outward = layer.weight.shape
        return Target("conv1d", (inward,), (outward,))
    return Target("other")


def _hook(layer: nn.Module, deltas: list[Delta]) -> Any:
    """A forward hook that adds the adapters' share to the layer's output."""
    if isinstance(layer, nn.Conv2d):
        stride, padding = layer.stride, layer.padding

        def convolve(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
            for delta in deltas:
                inner = functional.conv2d(args[0], delta.a, stride=stride, padding=padding)
                output = torch.add(output, functional.conv2d(inner, delta.b), alpha=delta.scale)
            return output

        return convolve

    def project(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        for delta in deltas:
            inner = functional.linear(args[0], delta.a)
            output = torch.add(output, functional.linear(inner, delta.b), alpha=delta.scale)
        return output

    return project


def _size(deltas: Iterable[Delta]) -> int:
    """Bytes held, shared blocks counted once."""
    blocks = {}
    for delta in deltas:
        for tensor in (delta.a, delta.b):
            storage = tensor.untyped_storage()
            blocks[storage.data_ptr()] = storage.nbytes()
    return sum(blocks.values())
