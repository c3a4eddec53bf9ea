"""Pipelines of the diffusers library, from a local folder, with LoRA adapters on demand.

diffusers reads the many dialects of LoRA files; the weights then act through the same bank as every other adapter,
so nothing is wrapped and detaching leaves the very same modules behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import diffusers
from torch import nn

from pipelines.core.errors import AdapterMismatch
from pipelines.core.registry import Attachment
from pipelines.core.specs import AdapterSpec, AdapterUse, ModelSpec
from pipelines.loaders.lora import HOW, Delta, LoraBank
from pipelines.loaders.memory import empty, give_back, module_bytes
from pipelines.loaders.transformers import dtype_for, library_class


class DiffusersLoader:
    """The model is the DiffusionPipeline itself. Card options: `cls` (a class of diffusers), `dtype`, `variant`."""

    def __init__(self) -> None:
        self._banks: WeakKeyDictionary[Any, dict[str, LoraBank]] = WeakKeyDictionary()

    def load(self, spec: ModelSpec, folder: Path, device: str) -> Any:
        """Build from safetensors in `folder`; never downloads, never runs code out of the folder."""
        diffusers.utils.logging.disable_progress_bar()  # ours are events
        cls = library_class(diffusers, spec, "cls", spec.options.get("cls", "DiffusionPipeline"))
        variant = spec.options.get("variant", "")
        pipe = cls.from_pretrained(
            folder,
            torch_dtype=dtype_for(spec, device),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            **({"variant": variant} if variant else {}),
        )
        return pipe.to(device)

    def measure(self, model: Any) -> int:
        return sum(module_bytes(part) for part in _networks(model).values())

    def check(self, model: Any, spec: AdapterSpec, folder: Path) -> None:
        self._read(model, spec, folder)

    def attach(self, model: Any, spec: AdapterSpec, folder: Path) -> Attachment:
        found = self._read(model, spec, folder)
        banks = self._banks_of(model, spec)
        return Attachment(sum(_add(banks[part], spec.id, deltas) for part, deltas in found.items()), HOW)

    def activate(self, model: Any, uses: tuple[AdapterUse, ...]) -> None:
        for bank in self._banks.get(model, {}).values():
            bank.activate(uses)

    def detach(self, model: Any, id: str) -> None:
        for bank in self._banks.get(model, {}).values():
            bank.detach(id)

    def free(self, model: Any) -> None:
        for bank in self._banks.pop(model, {}).values():
            bank.clear()
        for name, part in _networks(model).items():
            empty(part)
            setattr(model, name, None)
        give_back()

    def _read(self, model: Any, spec: AdapterSpec, folder: Path) -> dict[str, list[Delta]]:
        from pipelines.loaders.diffusion_lora import read_lora

        return read_lora(model, self._banks_of(model, spec), spec, folder)

    def _banks_of(self, model: Any, spec: AdapterSpec) -> dict[str, LoraBank]:
        """A bank for each part diffusers lets adapters act on, the denoiser first; raises AdapterMismatch if none."""
        if model not in self._banks:
            parts = (name for name in getattr(model, "_lora_loadable_modules", ()) if name in _networks(model))
            self._banks[model] = {name: LoraBank(getattr(model, name)) for name in parts}
        if not self._banks[model] or not hasattr(model, "lora_state_dict"):
            raise AdapterMismatch("adapters_unsupported", id=spec.id, base=spec.base)
        return self._banks[model]


def _networks(pipe: Any) -> dict[str, nn.Module]:
    return {name: part for name, part in pipe.components.items() if isinstance(part, nn.Module)}


def _add(bank: LoraBank, id: str, deltas: list[Delta]) -> int:
    device = bank.device
    return bank.add(id, [Delta(d.layer, d.a.to(device), d.b.to(device), d.scale) for d in deltas])
