"""Contrastive models of open_clip (CLIP, SigLIP, CoCa) from a local folder, never from the network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.core.errors import ModelLoadFailed
from pipelines.core.specs import ModelSpec
from pipelines.loaders.adapters import PlainLora
from pipelines.loaders.hub_files import OPEN_CLIP_WEIGHTS
from pipelines.loaders.memory import empty, give_back, module_bytes

CONFIG = "open_clip_config.json"


@dataclass(slots=True)
class OpenClipModel:
    """`preprocess` turns a PIL image into [3, h, w]; `tokenizer` turns strings into ids [n, context]."""

    model: Any
    preprocess: Any
    tokenizer: Any
    bank: Any = None  # adapters.PlainLora


class OpenClipLoader(PlainLora):
    """Card options: `architecture` where the folder has no open_clip_config.json, and `weights`, a file name."""

    def load(self, spec: ModelSpec, folder: Path, device: str) -> OpenClipModel:
        """The model in evaluation mode; raises ModelLoadFailed for what would need a second repository."""
        import open_clip

        weights = _weights(spec, folder)
        if (folder / CONFIG).is_file():
            _prepare(spec, folder)
            name = f"local-dir:{folder}"
            model, _, preprocess = open_clip.create_model_and_transforms(name, load_weights=False)
        else:
            name = _architecture(spec)
            model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained_text=False)
        open_clip.load_checkpoint(model, str(weights))
        model.eval().requires_grad_(False).to(device)
        return OpenClipModel(model, preprocess, open_clip.get_tokenizer(name))

    def measure(self, model: OpenClipModel) -> int:
        return module_bytes(model.model)

    def network(self, model: OpenClipModel) -> Any:
        return model.model

    def free(self, model: OpenClipModel) -> None:
        self.drop_bank(model)
        empty(model.model)
        model.model = model.preprocess = model.tokenizer = None
        give_back()


def _weights(spec: ModelSpec, folder: Path) -> Path:
    names = (str(spec.options.get("weights", "")), *OPEN_CLIP_WEIGHTS)
    for name in names:
        if name.endswith(".safetensors") and (folder / name).is_file():
            return folder / name
    raise ModelLoadFailed("file_missing", id=spec.id, file=names[0] or names[1])


def _architecture(spec: ModelSpec) -> str:
    import open_clip

    name = str(spec.options.get("architecture", ""))
    if not name:
        raise ModelLoadFailed("option_missing", id=spec.id, option="architecture")
    if name not in open_clip.list_models():  # also keeps out "hf-hub:…", which would fetch
        raise ModelLoadFailed("option_unknown", id=spec.id, option="architecture", value=name[:80])
    return name


def _prepare(spec: ModelSpec, folder: Path) -> None:
    """Refuse a text tower of transformers, which would be configured from another repository, over the network; and
    make timm know a picture tower that was trained here.
    """
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["model_cfg"]
    if config.get("text_cfg", {}).get("hf_model_name"):
        raise ModelLoadFailed("needs_other_model", id=spec.id)
    if config.get("vision_cfg", {}).get("timm_model_name", "").startswith("picto"):
        import pipelines.nets.picto  # noqa: F401  registers itself
