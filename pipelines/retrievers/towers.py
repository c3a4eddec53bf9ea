"""Dual towers: texts and pictures each become a unit vector of their own. One row of TOWERS per family.

Every function takes the loader's model and gives float32 rows of length 1, [number, dimension].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import normalize

from pipelines.vision_language import chat_inputs, on_device, shrink

Texts = Callable[[Any, Sequence[str]], torch.Tensor]
Pictures = Callable[[Any, Sequence[Image.Image]], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Towers:
    """The two ways into one space."""

    texts: Texts
    pictures: Pictures
    scale: Callable[[Any], float]  # what the model multiplies a cosine by to get a logit


def towers(loader: str, cls: str) -> Towers:
    """The towers of a card's loader and class."""
    return TOWERS["open_clip" if loader == "open_clip" else cls]


CLIP_SCALE = 100.0  # where CLIP's training stopped and clipped (Radford et al. 2021 §2.5); for models that keep none


def _own_scale(loaded: Any) -> float:
    return float(loaded.model.logit_scale.detach().exp())


def _usual_scale(loaded: Any) -> float:
    return CLIP_SCALE


# -- CLIP and its kin in transformers ------------------------------------------------------------


def _clip_texts(loaded: Any, texts: Sequence[str], padding: str = "longest") -> torch.Tensor:
    limit = loaded.model.config.text_config.max_position_embeddings
    inputs = loaded.processor(text=list(texts), padding=padding, truncation=True, max_length=limit, return_tensors="pt")
    return loaded.model.get_text_features(**on_device(inputs, loaded.model)).pooler_output


def _clip_pictures(loaded: Any, pictures: Sequence[Image.Image]) -> torch.Tensor:
    inputs = loaded.processor(images=list(pictures), return_tensors="pt")
    return loaded.model.get_image_features(**on_device(inputs, loaded.model)).pooler_output


def _siglip_texts(loaded: Any, texts: Sequence[str]) -> torch.Tensor:
    # trained on lower-cased text padded to full length
    return _clip_texts(loaded, [text.lower() for text in texts], padding="max_length")


# -- BLIP's contrastive heads --------------------------------------------------------------------


def _blip_texts(loaded: Any, texts: Sequence[str]) -> torch.Tensor:
    model = loaded.model
    inputs = blip_tokens(loaded, texts)
    hidden = model.text_encoder(**inputs).last_hidden_state
    return model.text_proj(hidden[:, 0])


def _blip_pictures(loaded: Any, pictures: Sequence[Image.Image]) -> torch.Tensor:
    return loaded.model.vision_proj(blip_patches(loaded, pictures)[:, 0])


def blip_tokens(loaded: Any, texts: Sequence[str]) -> dict[str, torch.Tensor]:
    """Token ids and mask; `token_type_ids` are not of this model."""
    limit = loaded.model.config.text_config.max_position_embeddings
    inputs = loaded.processor(
        text=list(texts), padding="longest", truncation=True, max_length=limit, return_tensors="pt"
    )
    return on_device({key: inputs[key] for key in ("input_ids", "attention_mask")}, loaded.model)


def blip_patches(loaded: Any, pictures: Sequence[Image.Image]) -> torch.Tensor:
    """What the vision tower makes of each patch: [pictures, 1 + patches, width]."""
    inputs = on_device(loaded.processor(images=list(pictures), return_tensors="pt"), loaded.model)
    return loaded.model.vision_model(pixel_values=inputs["pixel_values"]).last_hidden_state


# -- open_clip -----------------------------------------------------------------------------------


def _open_clip_texts(loaded: Any, texts: Sequence[str]) -> torch.Tensor:
    device = next(loaded.model.parameters()).device
    return loaded.model.encode_text(loaded.tokenizer(list(texts)).to(device))


def _open_clip_pictures(loaded: Any, pictures: Sequence[Image.Image]) -> torch.Tensor:
    return loaded.model.encode_image(open_clip_pixels(loaded, pictures))


def open_clip_pixels(loaded: Any, pictures: Sequence[Image.Image]) -> torch.Tensor:
    """What the picture tower reads: [pictures, 3, side, side] on its device, in its precision."""
    weight = next(loaded.model.parameters())
    return torch.stack([loaded.preprocess(picture) for picture in pictures]).to(weight.device, weight.dtype)


# -- Qwen3-VL-Embedding: a chat model whose last token is the embedding --------------------------

_INSTRUCTION = "Represent the user's input."


def _qwen_texts(loaded: Any, texts: Sequence[str]) -> torch.Tensor:
    return _qwen(loaded, [{"type": "text", "text": text} for text in texts])


def _qwen_pictures(loaded: Any, pictures: Sequence[Image.Image]) -> torch.Tensor:
    return _qwen(loaded, [{"type": "image", "image": shrink(picture)} for picture in pictures])


def _qwen(loaded: Any, contents: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """The recipe of QwenLM/Qwen3-VL-Embedding: instruction as system turn, last hidden state of the last token."""
    talks = [
        [
            {"role": "system", "content": [{"type": "text", "text": _INSTRUCTION}]},
            {"role": "user", "content": [content]},
        ]
        for content in contents
    ]
    inputs = on_device(chat_inputs(loaded.processor, talks), loaded.model)
    return loaded.model(**inputs).last_hidden_state[:, -1]


def _unit(function: Callable[[Any, Sequence[Any]], torch.Tensor]) -> Callable[[Any, Sequence[Any]], torch.Tensor]:
    def rows(loaded: Any, items: Sequence[Any]) -> torch.Tensor:
        with torch.inference_mode():
            return normalize(function(loaded, items).float(), dim=-1).cpu()

    return rows


_CLIP = Towers(_unit(_clip_texts), _unit(_clip_pictures), _own_scale)

TOWERS: Mapping[str, Towers] = {
    "CLIPModel": _CLIP,
    "ChineseCLIPModel": _CLIP,
    "MetaClip2Model": _CLIP,
    "SiglipModel": Towers(_unit(_siglip_texts), _unit(_clip_pictures), _own_scale),
    "BlipForImageTextRetrieval": Towers(_unit(_blip_texts), _unit(_blip_pictures), _usual_scale),
    "Qwen3VLModel": Towers(_unit(_qwen_texts), _unit(_qwen_pictures), _usual_scale),
    "open_clip": Towers(_unit(_open_clip_texts), _unit(_open_clip_pictures), _own_scale),
}
