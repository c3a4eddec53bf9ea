"""Single towers: text and picture are read together, and the model says how well they match, in [0, 1].

Slower than two towers (every pair is a pass of its own) and finer: words and patches see each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import Image

from pipelines.retrievers.towers import blip_patches, blip_tokens
from pipelines.vision_language import chat_inputs, on_device, shrink

Match = Callable[[Any, str, Sequence[Image.Image]], list[float]]


@torch.inference_mode()
def _blip(loaded: Any, text: str, pictures: Sequence[Image.Image]) -> list[float]:
    """BLIP's image-text matching head: probability of its class "match"."""
    model = loaded.model
    patches = blip_patches(loaded, pictures)
    hidden = model.text_encoder(
        **blip_tokens(loaded, [text] * len(pictures)),
        encoder_hidden_states=patches,
        encoder_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long, device=patches.device),
    ).last_hidden_state
    return model.itm_head(hidden[:, 0]).float().softmax(dim=-1)[:, 1].tolist()


_JUDGE = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
_INSTRUCT = "Given a search query, retrieve relevant candidates that answer the query."


@torch.inference_mode()
def _qwen(loaded: Any, text: str, pictures: Sequence[Image.Image]) -> list[float]:
    """The recipe of QwenLM/Qwen3-VL-Embedding's re-ranker: the probability of "yes" against "no" as next token."""
    talks = [
        [
            {"role": "system", "content": [{"type": "text", "text": _JUDGE}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": f"<Instruct>: {_INSTRUCT}"},
                    {"type": "text", "text": "<Query>:"},
                    {"type": "text", "text": text},
                    {"type": "text", "text": "\n<Document>:"},
                    {"type": "image", "image": shrink(picture)},
                ],
            },
        ]
        for picture in pictures
    ]
    inputs = on_device(chat_inputs(loaded.processor, talks), loaded.model)
    logits = loaded.model(**inputs, logits_to_keep=1).logits[:, -1].float()
    yes, no = (loaded.processor.tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    return torch.sigmoid(logits[:, yes] - logits[:, no]).tolist()


MATCHERS: Mapping[str, Match] = {
    "BlipForImageTextRetrieval": _blip,
    "Qwen3VLForConditionalGeneration": _qwen,
}
