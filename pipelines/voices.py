"""One class per family of voices: a phrase in, samples out. Knows the libraries' calls, not texts or streams."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from pipelines import reading, speech_text
from pipelines.core.errors import InvalidInput, ModelLoadFailed
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Stop
from pipelines.loaders import onnx
from pipelines.reading import Phrase, Unit
from pipelines.spectrogram import stretch

# The transformers voices draw from torch's process-wide generator: one at a time, or a seed would not repeat.
_DRAWING = threading.Lock()

STEP = 0.025  # seconds in which hibari and Kokoro count how long a phoneme lasts
_QUIET = 0.01  # of full scale: below it is the model's own silence
SENTENCE = 0.4  # seconds after a sentence, as the reader has it

Stages = tuple[tuple[str, float], ...]
Times = tuple[tuple[float, float], ...]
Read = Callable[[str], Iterator[Phrase]]


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """float32 samples [n], the phonemes where the voice has any, and the seconds each stage took.

    `times`: for each unit of the phrase where it begins and ends in the samples, in seconds; () where not known.
    """

    samples: np.ndarray
    phonemes: str
    stages: Stages
    times: Times = ()


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

    def phrases(self, text: str, overrides: Mapping[int, str]) -> Iterator[Phrase]:
        """The text in the pieces it is spoken in, each read when it is asked for."""

    def say(self, phrase: Phrase, manner: Manner) -> Spoken:
        """Speak one piece; the same manner gives the same samples."""


class _ByWords:
    """A voice that takes words: figures and signs are put into words for it where their language is known."""

    def phrases(self, text: str, overrides: Mapping[int, str]) -> Iterator[Phrase]:
        if not speech_text.unsupported(text, ("en", "zh")):
            return reading.phrases(text, overrides=overrides)
        return (Phrase((), piece, SENTENCE, piece) for piece in speech_text.sentences(text))


class _BySounds:
    """A voice that takes phonemes and tells how long each of them lasts."""

    rate = 24_000
    family = ""
    longest = 0  # phonemes it takes at once

    def vocabulary(self) -> Mapping[str, int]:
        raise NotImplementedError

    def sound(self, phonemes: str, manner: Manner) -> tuple[np.ndarray, np.ndarray]:
        """Samples [n], and the seconds of each phoneme and of the pad before and after them."""
        raise NotImplementedError

    def say(self, phrase: Phrase, manner: Manner) -> Spoken:
        started = time.perf_counter()
        phonemes, places = spelt(phrase.units, self.family, self.vocabulary())
        parts = [self._part(phonemes[a:b], manner) for a, b in _cuts(phonemes, self.longest)]
        samples = np.concatenate([np.zeros(0, np.float32), *(part for part, _ in parts)])
        starts = accumulate((len(part) / self.rate for part, _ in parts), initial=0.0)
        edges = [start + edge for start, (_, own) in zip(starts, parts, strict=False) for edge in own]
        times = tuple(_span(edges, a, b, len(samples) / self.rate) for a, b in places)
        stages = (("synthesis", time.perf_counter() - started),)
        return Spoken(samples, phonemes, stages, times if len(samples) else ())

    def _part(self, phonemes: str, manner: Manner) -> tuple[np.ndarray, list[float]]:
        """Samples without the model's own silence, and where in them each phoneme begins."""
        if not any(symbol.isalpha() for symbol in phonemes):
            return np.zeros(0, np.float32), [0.0] * len(phonemes)
        samples, seconds = self.sound(phonemes, manner)
        kept, skipped = _trimmed(samples, self.rate)
        begins = np.cumsum(seconds)[: len(phonemes)] - skipped / self.rate
        return kept, list(np.clip(begins, 0, len(kept) / self.rate))


class HibariVoice(_BySounds):
    """The small English voice inside the hibari package: phonemes to spectrum to waveform."""

    family = "hibari"
    longest = 400

    def __init__(self, model: Any, parts: tuple[Any, ...]) -> None:
        self.model = model
        self.rate = int(model.sample_rate)

    def vocabulary(self) -> Mapping[str, int]:
        return self.model.vocab  # type: ignore[no-any-return]

    def phrases(self, text: str, overrides: Mapping[int, str]) -> Iterator[Phrase]:
        return reading.phrases(text, overrides=overrides, english=self.model.g2p)

    def say(self, phrase: Phrase, manner: Manner) -> Spoken:
        _only(manner.voice, (self.model.voice,))
        return super().say(phrase, manner)

    def sound(self, phonemes: str, manner: Manner) -> tuple[np.ndarray, np.ndarray]:
        from hibari import dsp

        ids = np.array([self.model.ids(phonemes)], np.int64)
        inputs = {"ids": ids, "speed": np.array([manner.speed], np.float32)}
        *spectrum, lengths = onnx.run(self.model.sess, inputs, manner.stop)
        samples = dsp.synth(*(part[0] for part in spectrum), np.random.default_rng(manner.seed))
        return samples, lengths.reshape(-1) * STEP


class SpeechT5Voice(_ByWords):
    """SpeechT5 with its HiFi-GAN vocoder. No licensed speaker vector comes with it: the voice's name seeds one."""

    def __init__(self, model: Any, parts: tuple[Any, ...]) -> None:
        self.model, self.processor = model.model, model.processor
        if not parts:
            raise ModelLoadFailed("no_vocoder")
        self.vocoder = parts[0].model
        self.rate = int(self.vocoder.config.sampling_rate)

    def say(self, phrase: Phrase, manner: Manner) -> Spoken:
        import torch

        speaker = np.random.default_rng(zlib.crc32(manner.voice.encode()))
        vector = torch.tensor(speaker.standard_normal((1, self.model.config.speaker_embedding_dim)), dtype=torch.float)
        ids = self.processor(text=phrase.said, return_tensors="pt")["input_ids"].to(self.model.device)
        started = time.perf_counter()
        with torch.inference_mode(), _seeded(manner.seed, self.model.device):
            mel = self.model.generate_speech(ids, vector.to(self.model.device, self.model.dtype))
            drawn = time.perf_counter()
            samples = self.vocoder(_paced(mel, manner.speed))
        stages = (("spectrogram", drawn - started), ("vocoder", time.perf_counter() - drawn))
        return Spoken(samples.float().cpu().numpy().reshape(-1), "", stages)


class VitsVoice(_ByWords):
    """VITS, end to end; its tokenizer may write phonemes or letters."""

    def __init__(self, model: Any, parts: tuple[Any, ...]) -> None:
        self.model, self.tokenizer = model.model, model.processor
        self.rate = int(self.model.config.sampling_rate)

    def say(self, phrase: Phrase, manner: Manner) -> Spoken:
        import torch

        speakers = tuple(str(i) for i in range(self.model.config.num_speakers))
        _only(manner.voice, speakers)
        started = time.perf_counter()
        inputs = self.tokenizer(phrase.said, return_tensors="pt").to(self.model.device)
        if inputs["input_ids"].shape[1] < 2:  # nothing the tokenizer can spell
            return Spoken(np.zeros(0, np.float32), "", ())
        speaker = int(manner.voice or 0) if len(speakers) > 1 else None
        with torch.inference_mode(), _seeded(manner.seed, self.model.device):
            wave = self.model(**inputs, speaker_id=speaker, speaking_rate=manner.speed).waveform
        stages = (("synthesis", time.perf_counter() - started),)
        return Spoken(wave.float().cpu().numpy().reshape(-1), "", stages)


class VibeVoice(_ByWords):
    """VibeVoice: a language model that places sound, a diffusion head that draws it. Its voice comes with the seed."""

    def __init__(self, model: Any, parts: tuple[Any, ...]) -> None:
        self.model, self.processor = model.model, model.processor
        self.rate = int(self.processor.feature_extractor.sampling_rate)

    def say(self, phrase: Phrase, manner: Manner) -> Spoken:
        import torch
        from transformers import StoppingCriteriaList

        _only(manner.voice, ())
        turn = [{"role": "0", "content": [{"type": "text", "text": phrase.said}]}]
        inputs = self.processor.apply_chat_template(turn, tokenize=True, return_dict=True, return_tensors="pt").to(
            self.model.device, self.model.dtype
        )
        started = time.perf_counter()
        with torch.inference_mode(), _seeded(manner.seed, self.model.device):
            waves = self.model.generate(
                **inputs,
                max_new_tokens=30 + 3 * len(phrase.said),  # 7.5 tokens a second: four seconds, and 0.4 for a character
                stopping_criteria=StoppingCriteriaList([_stopper(manner.stop)]),
            )
        wave = waves[0]
        samples = np.zeros(0, np.float32) if wave is None else wave.float().cpu().numpy().reshape(-1)
        stages = (("synthesis", time.perf_counter() - started),)
        return Spoken(stretch(samples, self.rate, manner.speed), "", stages)


class KokoroVoice(_BySounds):
    """Kokoro, which reads Chinese and the English words in it. Draws nothing."""

    family = "kokoro"
    longest = 510  # what the model takes at once, and as many styles a voice has
    _first = 1.5  # seconds of the first phrase where there is a mark to end it at: it is what a listener waits for

    def __init__(self, model: Any, parts: tuple[Any, ...]) -> None:
        self.model = model
        self.english = parts[0].g2p if parts else None

    def vocabulary(self) -> Mapping[str, int]:
        return self.model.vocabulary  # type: ignore[no-any-return]

    def phrases(self, text: str, overrides: Mapping[int, str]) -> Iterator[Phrase]:
        return reading.phrases(text, overrides=overrides, english=self.english, first=self._first)

    def say(self, phrase: Phrase, manner: Manner) -> Spoken:
        _only(manner.voice, tuple(self.model.styles))
        return super().say(phrase, manner)

    def sound(self, phonemes: str, manner: Manner) -> tuple[np.ndarray, np.ndarray]:
        """In the style the voice has for as many phonemes."""
        ids = [self.model.vocabulary[symbol] for symbol in phonemes]
        inputs = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": self.model.styles[manner.voice or self.model.voice][len(ids) - 1].reshape(1, -1),
            "speed": np.array([manner.speed], np.float32),
        }
        samples, lengths = onnx.run(self.model.session, inputs, manner.stop)
        return samples.reshape(-1), lengths.reshape(-1) * STEP


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
    needed = {"vocoder": True, "english": "english" in spec.options and reading.needs_english(text)}
    return [spec.options[name] for name, now in needed.items() if now and name in spec.options]


def names(spec: ModelSpec) -> dict[str, Mapping[str, str]]:
    """The voices to choose from, with what a card says of each in {en=..., zh=...}: whose it is, and its accent."""
    return dict(spec.options.get("voices", {}))


def spelt(units: Sequence[Unit], family: str, vocabulary: Mapping[str, int]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The phonemes of the units that the vocabulary has, and where those of each unit begin and end."""
    whole, places = "", []
    for unit in units:
        sounds = reading.phonemes(unit, family)
        if not sounds:
            places.append((len(whole), len(whole)))
            continue
        before, own, after = (_known(part, vocabulary) for part in (unit.before, unit.phonemes, unit.after))
        start = len(whole) + len(before if whole else before.lstrip())
        places.append((start, start + len(own)))
        whole = (whole + before if whole else before.lstrip()) + own + after
    return whole, tuple(places)


def _known(phonemes: str, vocabulary: Mapping[str, int]) -> str:
    return "".join(symbol for symbol in phonemes if symbol in vocabulary)


def _only(voice: str, known: tuple[str, ...]) -> None:
    if voice and voice not in known:
        raise InvalidInput("unknown_voice", voice=voice[:80], known=", ".join(known) or "–")


def _cuts(phonemes: str, longest: int) -> list[tuple[int, int]]:
    """Places of pieces of at most `longest`, cut after a space where there is one."""
    cuts, at = [], 0
    while at < len(phonemes):
        end = min(at + longest, len(phonemes))
        if end < len(phonemes) and (space := phonemes.rfind(" ", at + 1, end)) > 0:
            end = space + 1
        cuts.append((at, end))
        at = end
    return cuts


def _span(edges: Sequence[float], start: int, end: int, whole: float) -> tuple[float, float]:
    """From where phoneme `start` begins to where phoneme `end` does."""
    begins = edges[start] if start < len(edges) else whole
    return begins, edges[end] if end < len(edges) else whole


def _trimmed(samples: np.ndarray, rate: int) -> tuple[np.ndarray, int]:
    """Without the model's own silence at both ends, but for 30 ms, and how many samples went at the start: pauses are
    the reader's to choose."""
    first = np.flatnonzero(np.abs(samples[:rate]) > _QUIET)
    last = np.flatnonzero(np.abs(samples[-rate:]) > _QUIET) + max(0, len(samples) - rate)
    if not (len(first) and len(last)):  # more than a second of silence: rare, so all is looked at only then
        first = last = np.flatnonzero(np.abs(samples) > _QUIET)
    if not len(first):
        return samples[:0], 0
    edge = round(0.03 * rate)
    start = max(0, int(first[0]) - edge)
    return samples[start : int(last[-1]) + edge], start


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
