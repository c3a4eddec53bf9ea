"""Ears: what is heard in a sound, by Whisper in either form. Knows no voice and not what should have been said."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from typing import Any, Protocol

from pipelines.core.catalog import Catalog
from pipelines.core.errors import InvalidInput, ModelLoadFailed
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Stop
from pipelines.media import Sound

RATE = 16_000  # hertz Whisper hears at
WHOLE = 28  # seconds it hears at once; longer sound is heard in such pieces
LANGUAGES = ("en", "zh")
_STYLE = {"zh": "以下是普通话的句子。", "en": None}  # what comes after a sentence is written like it


class Ears(Protocol):
    """A loaded listener."""

    def hear(self, sound: Sound, language: str, stop: Stop) -> str:
        """The words of a sound in "en" or "zh"; what was heard so far once stopped."""


class WhisperEars:
    """Whisper by faster-whisper: beams of five, nothing drawn at random."""

    def __init__(self, model: Any) -> None:
        self.model = model.model
        tokenizer = self.model.hf_tokenizer
        self.unwanted = {"zh": [-1, *_traditional(tokenizer.get_vocab_size(), lambda at: tokenizer.decode([at]))]}

    def hear(self, sound: Sound, language: str, stop: Stop) -> str:
        heard = []
        pieces, _ = self.model.transcribe(
            sound.resampled(RATE).samples,
            language=language,
            beam_size=5,
            temperature=0.0,
            initial_prompt=_STYLE[language],
            condition_on_previous_text=False,
            suppress_tokens=self.unwanted.get(language, [-1]),
            without_timestamps=sound.seconds <= WHOLE,
        )
        for piece in pieces:
            heard.append(piece.text.strip())
            if stop:
                break
        return _joined(heard, language)


class TransformersEars:
    """Whisper by transformers, on whatever device it was loaded."""

    def __init__(self, model: Any) -> None:
        self.model, self.processor = model.model, model.processor
        tokenizer = self.processor.tokenizer
        kept = list(getattr(self.model.generation_config, "suppress_tokens", None) or ())
        unwanted = _traditional(len(tokenizer), lambda at: tokenizer.decode([at]))
        self.unwanted = {"zh": [*kept, *unwanted], "en": kept}

    def hear(self, sound: Sound, language: str, stop: Stop) -> str:
        import torch

        samples, heard = sound.resampled(RATE).samples, []
        for at in range(0, len(samples), WHOLE * RATE):
            if stop:
                break
            inputs = self.processor(samples[at : at + WHOLE * RATE], sampling_rate=RATE, return_tensors="pt")
            features = inputs["input_features"].to(self.model.device, self.model.dtype)
            with torch.inference_mode():
                ids = self.model.generate(
                    features,
                    language=language,
                    task="transcribe",
                    num_beams=5,
                    do_sample=False,
                    suppress_tokens=self.unwanted[language] or None,
                )
            heard.append(self.processor.batch_decode(ids, skip_special_tokens=True)[0].strip())
        return _joined(heard, language)


FAMILIES: dict[str, type[Ears]] = {
    "whisper": WhisperEars,
    "WhisperForConditionalGeneration": TransformersEars,
}


def card(catalog: Catalog) -> ModelSpec:
    """The listener to use here: the smallest whose packages are installed; raises ModelLoadFailed if there is none."""
    listeners = sorted((spec for spec in catalog.models() if spec.options.get("ears")), key=lambda spec: spec.size_mb)
    for spec in listeners:
        if all(importlib.util.find_spec(module) for module in spec.requires):
            return spec
    raise ModelLoadFailed("no_ears")


def of(spec: ModelSpec, model: Any) -> Ears:
    """The ears over a leased model of this card."""
    return FAMILIES[spec.options.get("cls", spec.loader)](model)


def listen(ears: Ears, sound: Sound, language: str, stop: Stop) -> str:
    """What is heard; raises InvalidInput for a language the ears are not asked in."""
    if language not in LANGUAGES:
        raise InvalidInput("not_a_choice", name="language", value=language[:80], known=", ".join(LANGUAGES))
    return ears.hear(sound, language, stop) if len(sound.samples) else ""


def _joined(heard: list[str], language: str) -> str:
    return ("" if language == "zh" else " ").join(text for text in heard if text)


def _traditional(size: int, decode: Callable[[int], str]) -> list[int]:
    """The tokens that hold a Chinese character no simplified text has: one outside GB 2312."""
    return [at for at in range(size) if any(_outside(char) for char in re.findall("[㐀-鿿]", decode(at)))]


def _outside(char: str) -> bool:
    try:
        return not char.encode("gb2312")
    except UnicodeEncodeError:
        return True
