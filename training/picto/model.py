"""The network's shape, and the folder it is shipped in: an open_clip CoCa that open_clip builds from its config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from open_clip.coca_model import CoCa
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

import pipelines.nets.picto  # noqa: F401  registers the tower with timm
from training.picto.tokenizer import CONTEXT, PAD

WIDTH = 256
SIDE = 96
SHARE = 1.0  # of the meanings in the embedding; chosen on concepts that only the share-alike sources have
CHECKPOINT, FINAL = "checkpoint.pt", "final.pt"  # of train and of decoder, in the work folder
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def config(vocabulary: int) -> dict[str, Any]:
    """Arguments of open_clip's CoCa."""
    text = {"context_length": CONTEXT, "vocab_size": vocabulary, "width": WIDTH, "heads": 4, "layers": 3}
    pooled = {"embed_cls": True, "output_tokens": True, "pad_id": PAD, "hf_tokenizer_name": "picto-coca"}
    return {
        "embed_dim": WIDTH,
        "custom_text": True,
        "pad_id": PAD,
        "vision_cfg": {"image_size": SIDE, "timm_model_name": "picto_conv", "timm_pool": "avg", "timm_proj": ""},
        "text_cfg": text | pooled,
        "multimodal_cfg": {"context_length": CONTEXT, "width": WIDTH, "heads": 4, "layers": 3, "attn_pooler_heads": 4},
    }


def build(vocabulary: int) -> CoCa:
    arguments = config(vocabulary)
    del arguments["custom_text"]
    return CoCa(**arguments).to(memory_format=torch.channels_last)


def trained(work: Path) -> tuple[CoCa, PreTrainedTokenizerFast]:
    """The averaged weights of the last step that was trained, in evaluation mode, and their tokenizer."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(work / "tokenizer"))
    coca = build(len(tokenizer)).eval()
    ended = (work / FINAL).is_file()
    state = torch.load(work / (FINAL if ended else CHECKPOINT), weights_only=True, map_location="cpu")
    coca.load_state_dict(state["average"])
    if not ended:
        fold(coca, state["meaning"]["weight"])
    return coca, tokenizer


@torch.no_grad()
def fold(coca: CoCa, meaning: torch.Tensor) -> None:
    """Lets the embedding's cosine count what the head `meaning` [256, 256] sees, too, at no cost.

    With A such that A'A = I + SHARE^2 M'M, the product of A x and A y is that of x and y plus SHARE^2 times that of
    their meanings: A goes into the last linear layer of each tower.
    """
    a = torch.linalg.cholesky(torch.eye(WIDTH) + SHARE**2 * meaning.T @ meaning).T
    coca.visual.trunk.pooled.weight.copy_(a @ coca.visual.trunk.pooled.weight)
    coca.text.text_projection.copy_(coca.text.text_projection @ a.T)


def ship(model: CoCa, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Writes what `open_clip.create_model_and_transforms("local-dir:…")` reads; weights as float16."""
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "longest", "fill_color": 255}
    text = json.dumps({"model_cfg": config(len(tokenizer)), "preprocess_cfg": preprocess}, indent=2)
    (folder / "open_clip_config.json").write_text(text + "\n", encoding="utf-8")
    state = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "open_clip_model.safetensors")
    tokenizer.save_pretrained(str(folder))
