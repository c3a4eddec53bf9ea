"""Models of the transformers library, from a local folder.

Knows how they are built, measured and freed; what a task does with them is the pipelines' business.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from pipelines.core.errors import ModelLoadFailed
from pipelines.core.specs import ModelSpec
from pipelines.loaders.adapters import PlainLora
from pipelines.loaders.memory import empty, give_back, module_bytes

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(slots=True, weakref_slot=True)
class TransformersModel:
    """What a lease hands out: the network in eval mode, its processor (or None), and the folder both came from."""

    model: Any
    processor: Any
    folder: Path
    bank: Any = None  # adapters.PlainLora


class TransformersLoader(PlainLora):
    """Card options: `cls` (a class of transformers), `processor` (default AutoProcessor, "" for none), `dtype`."""

    def load(self, spec: ModelSpec, folder: Path, device: str) -> TransformersModel:
        """Build from safetensors in `folder`; never downloads, never runs code out of the folder."""
        transformers.utils.logging.disable_progress_bar()  # ours are events
        cls = library_class(transformers, spec, "cls", spec.options.get("cls", ""))
        model = cls.from_pretrained(
            folder,
            dtype=dtype_for(spec, device),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
        return TransformersModel(model.to(device).eval(), _processor(spec, folder), folder)

    def network(self, model: TransformersModel) -> Any:
        return model.model

    def measure(self, model: TransformersModel) -> int:
        return module_bytes(model.model)

    def free(self, model: TransformersModel) -> None:
        self.drop_bank(model)
        empty(model.model)
        model.model = model.processor = None
        give_back()


def _processor(spec: ModelSpec, folder: Path) -> Any:
    name = spec.options.get("processor", "AutoProcessor")
    if not name:
        return None
    cls = library_class(transformers, spec, "processor", name)
    return cls.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def library_class(library: Any, spec: ModelSpec, option: str, name: Any) -> Any:
    """The class a card names; raises ModelLoadFailed if the library has none of that name."""
    cls = getattr(library, str(name), None)
    if not isinstance(cls, type) or not hasattr(cls, "from_pretrained"):
        raise ModelLoadFailed("unknown_class", id=spec.id, option=option, name=str(name)[:80])
    return cls


def dtype_for(spec: ModelSpec, device: str) -> torch.dtype:
    """The card's `dtype`; "auto" is float32 on the CPU and bfloat16 elsewhere. Raises ModelLoadFailed."""
    name = str(spec.options.get("dtype", "auto"))
    if name == "auto":
        return torch.float32 if device == "cpu" else torch.bfloat16
    if name not in _DTYPES:
        raise ModelLoadFailed("unknown_dtype", id=spec.id, name=name[:40], known=", ".join(["auto", *_DTYPES]))
    return _DTYPES[name]
