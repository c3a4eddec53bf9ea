"""Pipelines of the diffusers library, from a local folder, with LoRA adapters on demand.

diffusers reads the many dialects of LoRA files; the weights then act through the same bank as every other adapter,
so nothing is wrapped and detaching leaves the very same modules behind.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import diffusers
import torch

from pipelines.core.registry import Attachment
from pipelines.core.specs import AdapterSpec, AdapterUse, ModelSpec
from pipelines.loaders.memory import empty, give_back, module_bytes
from pipelines.loaders.transformers import dtype_for, library_class


class DiffusersLoader:
    """The model is the DiffusionPipeline itself. Card options: `cls` (a class of diffusers), `dtype`, `variant`."""

    def __init__(self) -> None:
        self._banks: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def load(self, spec: ModelSpec, folder: Path, device: str) -> Any:
        """Build from safetensors in `folder`; never downloads, never runs code out of the folder."""
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
        raise NotImplementedError

    def attach(self, model: Any, spec: AdapterSpec, folder: Path) -> Attachment:
        raise NotImplementedError

    def activate(self, model: Any, uses: tuple[AdapterUse, ...]) -> None:
        return None

    def detach(self, model: Any, id: str) -> None:
        return None

    def free(self, model: Any) -> None:
        for name, part in _networks(model).items():
            empty(part)
            setattr(model, name, None)
        give_back()


def _networks(pipe: Any) -> dict[str, torch.nn.Module]:
    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
