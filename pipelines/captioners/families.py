"""Which transformers class is asked in which way: one row per family. Importing it imports no framework."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

MAX_PIXELS = 1280 * 1280  # a chat model cuts a picture into patches of its own size: more pixels, more tokens

DESCRIBE = {"en": "Describe this image in one sentence.", "zh": "用一句话描述这张图片。"}
ANSWER_IN = {"en": " Answer in English.", "zh": "请用中文回答。"}

Inputs = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """`ask(processor, image, prompt)` gives the model's inputs; `answers`: it can be asked a question."""

    ask: Callable[[Any, Image.Image, str], Inputs]
    answers: bool = False


def prompt(question: str, language: str) -> str:
    """What a chat model is told; `language` is auto, en or zh."""
    if not question.strip():
        return DESCRIBE["zh" if language == "zh" else "en"]
    return question.strip() + ANSWER_IN.get(language, "")


def clean(text: str) -> str:
    """The caption itself: without a reasoning block and surplus space."""
    text = re.sub(r"<think>.*?(</think>|$)", "", text, flags=re.DOTALL)
    return re.sub(r"[ \t]+", " ", text).strip()


def shrink(image: Image.Image, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The picture at no more than `max_pixels`, its proportions kept."""
    factor = (max_pixels / (image.width * image.height)) ** 0.5
    if factor >= 1:
        return image
    return image.resize((max(1, int(image.width * factor)), max(1, int(image.height * factor))))


def _pixels(processor: Any, image: Image.Image, prompt: str) -> Inputs:
    return processor(images=image, return_tensors="pt")


def _florence(processor: Any, image: Image.Image, prompt: str) -> Inputs:
    return processor(images=image, text="<CAPTION>", return_tensors="pt")


def _chat(processor: Any, image: Image.Image, prompt: str) -> Inputs:
    content = [{"type": "image", "image": shrink(image)}, {"type": "text", "text": prompt}]
    return chat_inputs(processor, [[{"role": "user", "content": content}]])


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


FAMILIES: Mapping[str, Family] = {
    "BlipForConditionalGeneration": Family(_pixels),
    "GitForCausalLM": Family(_pixels),
    "Florence2ForConditionalGeneration": Family(_florence),
    "Qwen3VLForConditionalGeneration": Family(_chat, answers=True),
    "Qwen3_5ForConditionalGeneration": Family(_chat, answers=True),
}
