"""Networks defined in pipelines.nets: config.json gives the constructor's arguments, model.safetensors the weights."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.core.errors import ModelLoadFailed
from pipelines.core.specs import ModelSpec
from pipelines.loaders.adapters import PlainLora
from pipelines.loaders.memory import empty, give_back, module_bytes

NETS = "pipelines.nets"


@dataclass(slots=True)
class TorchModel:
    """The module in evaluation mode, its config, and the folder with whatever else belongs to it."""

    module: Any
    config: dict[str, Any]
    folder: Path
    bank: Any = None  # adapters.PlainLora


class TorchLoader(PlainLora):
    """Card option: `cls = "pipelines.nets.module:Class"`, called as `Class(**config["network"])`."""

    def load(self, spec: ModelSpec, folder: Path, device: str) -> TorchModel:
        """Raises ModelLoadFailed if a file is missing or a tensor is missing, left over or of another shape."""
        from safetensors.torch import load_file

        for name in ("config.json", "model.safetensors"):
            if not (folder / name).is_file():
                raise ModelLoadFailed("file_missing", id=spec.id, file=name)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        module = _class(spec)(**config.get("network", config))
        try:
            module.load_state_dict(load_file(folder / "model.safetensors"))
        except RuntimeError as error:
            raise ModelLoadFailed("weights_do_not_fit", id=spec.id) from error
        module.eval().requires_grad_(False).to(device)
        return TorchModel(module, config, folder)

    def measure(self, model: TorchModel) -> int:
        return module_bytes(model.module)

    def network(self, model: TorchModel) -> Any:
        return model.module

    def free(self, model: TorchModel) -> None:
        self.drop_bank(model)
        empty(model.module)
        model.module = None
        give_back()


def _class(spec: ModelSpec) -> Any:
    """The network's class; only this repository's own are imported."""
    path = str(spec.options.get("cls", ""))
    module, _, name = path.partition(":")
    if not module.startswith(NETS + ".") or not name.isidentifier():
        raise ModelLoadFailed("option_unknown", id=spec.id, option="cls", value=path[:80])
    return getattr(importlib.import_module(module), name)
