"""What captioning and retrieval share: pictures of a fitting size, conversations with pictures as model inputs.

Importing it imports no framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from PIL import Image

from pipelines.core.errors import OutOfMemory

MAX_PIXELS = 1280 * 1280  # a chat model cuts a picture into patches of its own size: more pixels, more tokens

Inputs = Mapping[str, Any]  # name -> tensor


def shrink(image: Image.Image, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture at no more than `max_pixels`, its proportions kept."""
    factor = (max_pixels / (image.width * image.height)) ** 0.5
    if factor >= 1:
        return image
    return image.resize((max(1, int(image.width * factor)), max(1, int(image.height * factor))))


def chat_inputs(processor: Any, talks: list[list[dict[str, Any]]]) -> Inputs:
    """A batch of conversations as model inputs, padded on the left so that the last column is each one's end."""
    # a caption or a score needs no reasoning; only templates that have such a mode know the word
    mode = {"enable_thinking": False} if "enable_thinking" in str(processor.chat_template) else {}
    return processor.apply_chat_template(
        talks,
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True, "padding_side": "left"},
        sanitize_control_tokens=True,  # what a visitor writes cannot end the turn or stand for a picture
        **mode,
    )


def on_device(inputs: Inputs, model: Any) -> dict[str, Any]:
    """The inputs on the model's device, floats in its dtype."""
    return {
        name: value.to(model.device, model.dtype if value.is_floating_point() else None)
        for name, value in inputs.items()
    }


@contextmanager
def out_of_memory(id: str) -> Iterator[None]:
    """Name the model that ran out of the device's memory."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory("out_of_memory", id=id) from error
