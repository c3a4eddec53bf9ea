"""Which transformers class is asked in which way: one row per family. Importing it imports no framework."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from pipelines.vision_language import Inputs, chat_inputs, shrink

DESCRIBE = {"en": "Describe this image in one sentence.", "zh": "用一句话描述这张图片。"}
ANSWER_IN = {"en": " Answer in English.", "zh": "请用中文回答。"}


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


def _pixels(processor: Any, image: Image.Image, prompt: str) -> Inputs:
    return processor(images=image, return_tensors="pt")


def _florence(processor: Any, image: Image.Image, prompt: str) -> Inputs:
    return processor(images=image, text="<CAPTION>", return_tensors="pt")


def _chat(processor: Any, image: Image.Image, prompt: str) -> Inputs:
    content = [{"type": "image", "image": shrink(image)}, {"type": "text", "text": prompt}]
    return chat_inputs(processor, [[{"role": "user", "content": content}]])


FAMILIES: Mapping[str, Family] = {
    "BlipForConditionalGeneration": Family(_pixels),
    "GitForCausalLM": Family(_pixels),
    "Florence2ForConditionalGeneration": Family(_florence),
    "Qwen3VLForConditionalGeneration": Family(_chat, answers=True),
    "Qwen3_5ForConditionalGeneration": Family(_chat, answers=True),
}
