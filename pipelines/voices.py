"""One class per family of voices: a sentence in, samples out. Knows the libraries' calls, not sentences or streams."""

from __future__ import annotations

import re
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from pipelines import mandarin, speech_text
from pipelines.core.errors import InvalidInput, ModelLoadFailed
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Stop
from pipelines.spectrogram import stretch

# The transformers voices draw from torch's process-wide generator: one at a time, or a seed would not repeat.
_DRAWING = threading.Lock()

Stages = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """float32 samples [n], the phonemes where the voice has any, and the seconds each stage took."""

    samples: np.ndarray
    phonemes: str
    stages: Stages


@dataclass(frozen=True, slots=True)
class Manner:
    """How to say it."""

    voice: str
    speed: float
    seed: int
    stop: Stop


class Voice(Protocol):
    """A loaded family of voices."""

    rate: int

    def sentences(self, text: str) -> list[str]:
        """The text in the pieces it is spoken in."""

    def say(self, sentence: str, manner: Manner) -> Spoken:
        """Speak one piece; the same manner gives the same samples."""


class HibariVoice:
    """The small English voice inside the hibari package: text to phonemes to spectrum to waveform."""

    def __init__(self, model: Any, parts: tuple[Any, ...]) -> None:
        self.model = model
        self.rate = int(model.sample_rate)

    def sentences(self, text: str) -> list[str]:
        return speech_text.speakable(self.model.split_sentences(text))

    def say(self, sentence: str, manner: Manner) -> Spoken:
        _only(manner.voice, (self.model.voice,))
        started = time.perf_counter()
        phonemes = self.model.phonemize(sentence)
        spelt = time.perf_counter()
        draws = np.random.default_rng(manner.seed)
        parts = [self.model.from_ids(self.model.ids(each), manner.speed, draws) for each in phonemes]
        samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        spoken = time.perf_counter()
        stages = (("phonemes", spelt - started), ("synthesis", spoken - spelt))
        return Spoken(samples, " ".join(phonemes), stages)


class SpeechT5Voice:
    """SpeechT5 with its HiFi-GAN vocoder. No licensed speaker vector comes with it: the voice's name seeds one."""

    def __init__(self, model: Any, parts: tuple[Any, ...]) -> None:
        self.model, self.processor = model.model, model.processor
        if not parts:
            raise ModelLoadFailed("no_vocoder")
        self.vocoder = parts[0].model
        self.rate = int(self.vocoder.config.sampling_rate)

    def sentences(self, text: str) -> list[str]:
        return speech_text.sentences(text)

    def say(self, sentence: str, manner: Manner) -> Spoken:
        import torch

        speaker = np.random.default_rng(zlib.crc32(manner.voice.encode()))
        vector = torch.tensor(speaker.standard_normal((1, self.model.config.speaker_embedding_dim)), dtype=torch.float)
        ids = self.processor(text=sentence, return_tensors="pt")["input_ids"].to(self.model.device)
        started = time.perf_counter()
        with torch.inference_mode(), _seeded(manner.seed, self.model.device):
            mel = self.model.generate_speech(ids, vector.to(self.model.device, self.model.dtype))
            drawn = time.perf_counter()
            samples = self.vocoder(_paced(mel, manner.speed))
        stages = (("spectrogram", drawn - started), ("vocoder", time.perf_counter() - drawn))
        return Spoken(samples.float().cpu().numpy().reshape(-1), "", stages)


class VitsVoice:
    """VITS, end to end; its tokenizer may write phonemes or letters."""

    def __init__(self, model: Any, parts: tuple[Any, ...]) -> None:
        self.model, self.tokenizer = model.model, model.processor
        self.rate = int(self.model.config.sampling_rate)

    def sentences(self, text: str) -> list[str]:
        return speech_text.sentences(text)

    def say(self, sentence: str, manner: Manner) -> Spoken:
        import torch

        speakers = tuple(str(i) for i in range(self.model.config.num_speakers))
        _only(manner.voice, speakers)
        started = time.perf_counter()
        inputs = self.tokenizer(sentence, return_tensors="pt").to(self.model.device)
        if inputs["input_ids"].shape[1] < 2:  # nothing the tokenizer can spell
            return Spoken(np.zeros(0, np.float32), "", ())
        speaker = int(manner.voice or 0) if len(speakers) > 1 else None
        with torch.inference_mode(), _seeded(manner.seed, self.model.device):
            wave = self.model(**inputs, speaker_id=speaker, speaking_rate=manner.speed).waveform
        stages = (("synthesis", time.perf_counter() - started),)
        return Spoken(wave.float().cpu().numpy().reshape(-1), "", stages)


class VibeVoice:
    """VibeVoice: a language model that places sound, a diffusion head that draws it. Its voice comes with the seed."""

    def __init__(self, model: Any, parts: tuple[Any, ...]) -> None:
        self.model, self.processor = model.model, model.processor
        self.rate = int(self.processor.feature_extractor.sampling_rate)

    def sentences(self, text: str) -> list[str]:
        return speech_text.sentences(text)

    def say(self, sentence: str, manner: Manner) -> Spoken:
        import torch
        from transformers import StoppingCriteriaList

        _only(manner.voice, ())
        turn = [{"role": "0", "content": [{"type": "text", "text": sentence}]}]
        inputs = self.processor.apply_chat_template(turn, tokenize=True, return_dict=True, return_tensors="pt").to(
            self.model.device, self.model.dtype
        )
        started = time.perf_counter()
        with torch.inference_mode(), _seeded(manner.seed, self.model.device):
            waves = self.model.generate(
                **inputs,
                max_new_tokens=30 + 3 * len(sentence),  # 7.5 tokens a second: four seconds, and 0.4 for a character
                stopping_criteria=StoppingCriteriaList([_stopper(manner.stop)]),
            )
        wave = waves[0]
        samples = np.zeros(0, np.float32) if wave is None else wave.float().cpu().numpy().reshape(-1)
        stages = (("synthesis", time.perf_counter() - started),)
        return Spoken(stretch(samples, self.rate, manner.speed), "", stages)


class KokoroVoice:
    """Kokoro with a reader of Chinese, and, where the text has English in it, hibari to read that. Draws nothing."""

    rate = 24_000
    _longest = 60  # characters: a dozen seconds of sound, so that a stop is not long in coming
    _tokens = 510  # what the model takes at once, and as many styles a voice has

    def __init__(self, model: Any, parts: tuple[Any, ...]) -> None:
        self.model = model
        self.english = parts[0] if parts else None

    def sentences(self, text: str) -> list[str]:
        return speech_text.sentences(text, self._longest)

    def say(self, sentence: str, manner: Manner) -> Spoken:
        _only(manner.voice, tuple(self.model.styles))
        started = time.perf_counter()
        phonemes = self.model.reader.phonemes(sentence, self._read_english)
        known = "".join(symbol for symbol in phonemes if symbol in self.model.vocabulary)
        spelt = time.perf_counter()
        styles = self.model.styles[manner.voice or self.model.voice]
        samples = [self._sound(part, styles, manner.speed) for part in _lengths(known, self._tokens)]
        stages = (("phonemes", spelt - started), ("synthesis", time.perf_counter() - spelt))
        return Spoken(np.concatenate([np.zeros(0, np.float32), *samples]), known, stages)

    def _read_english(self, words: str) -> str:
        return " ".join(self.english.phonemize(words)) if self.english else ""

    def _sound(self, phonemes: str, styles: np.ndarray, speed: float) -> np.ndarray:
        """Samples of at most 510 phonemes, in the style the voice has for that many, with short silences around."""
        if not any(symbol.isalpha() for symbol in phonemes):
            return np.zeros(0, np.float32)
        ids = [self.model.vocabulary[symbol] for symbol in phonemes]
        inputs = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": styles[len(ids) - 1].reshape(1, -1),
            "speed": np.array([speed], np.float32),
        }
        return _trimmed(self.model.session.run(None, inputs)[0].reshape(-1), self.rate)


FAMILIES: dict[str, type[Voice]] = {
    "hibari": HibariVoice,
    "kokoro": KokoroVoice,
    "SpeechT5ForTextToSpeech": SpeechT5Voice,
    "VitsModel": VitsVoice,
    "VibeVoiceForConditionalGeneration": VibeVoice,
}


def family(kind: str) -> type[Voice]:
    """The family of a loader or class name; raises ModelLoadFailed for one there is no voice for."""
    if kind not in FAMILIES:
        raise ModelLoadFailed("no_voice_family", cls=kind, known=", ".join(FAMILIES))
    return FAMILIES[kind]


def helpers(spec: ModelSpec, text: str) -> list[str]:
    """The ids of the models a voice needs beside its own for this text: its vocoder, a reader of English words."""
    names = ["vocoder", *(["english"] if mandarin.has_latin(text) else [])]
    return [spec.options[name] for name in names if name in spec.options]


def _only(voice: str, known: tuple[str, ...]) -> None:
    if voice and voice not in known:
        raise InvalidInput("unknown_voice", voice=voice[:80], known=", ".join(known) or "–")


def _lengths(phonemes: str, longest: int) -> list[str]:
    """Cut between words, or anywhere in a word that is too long itself."""
    return [part for part in re.findall(rf".{{1,{longest}}}(?=\s|$)|.{{1,{longest}}}", phonemes) if part.strip()]


def _trimmed(samples: np.ndarray, rate: int) -> np.ndarray:
    """Without the model's own silence at both ends, but for 30 ms: pauses are the reader's to choose."""
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    edge = round(0.03 * rate)
    return samples[max(0, loud[0] - edge) : loud[-1] + edge] if len(loud) else samples[:0]


def _paced(mel: Any, speed: float) -> Any:
    """A spectrogram [frames, mels] played faster or slower: interpolated in time, so the pitch stays."""
    import torch

    if speed == 1:
        return mel
    frames = max(1, round(mel.shape[0] / speed))
    return torch.nn.functional.interpolate(mel.T[None], size=frames, mode="linear")[0].T


@contextmanager
def _seeded(seed: int, device: Any) -> Iterator[None]:
    """Draw from this seed and leave the process-wide generators as they were."""
    import torch

    devices = [device] if device.type == "cuda" else []
    with _DRAWING, torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


def _stopper(stop: Stop) -> Any:
    import torch
    from transformers import StoppingCriteria

    class Stopper(StoppingCriteria):
        def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
            return torch.full((input_ids.shape[0],), bool(stop), dtype=torch.bool, device=input_ids.device)

    return Stopper()
