"""What a reading aloud gives back. Plain data: no model, no file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.core.specs import Made
from pipelines.joins import Seam
from pipelines.reading import Unit
from pipelines.round_trip import Trip
from pipelines.tones import Toned


@dataclass(frozen=True, slots=True)
class Word:
    """A unit of the text and where it is heard, in seconds of the sound; both 0 where the voice does not tell."""

    unit: Unit
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Sentence:
    """One spoken phrase: its text, the same in words, and its phonemes, "" where the voice has none; `start` and `end`
    are seconds in the sound, `words` its units."""

    text: str
    phonemes: str
    start: float
    end: float
    said: str = ""
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """`wav` is 16-bit mono, the settings in its comment; `rtf` seconds of computing per second of sound; `mel` (80,
    frames) float32 in dB under the peak, `mel_hop` seconds apart; `stages` names where the time went.

    `first_audio`: seconds until the first phrase could be heard. `clipped`: share of the samples beyond full scale.
    With the lens on: `pitch` in hertz every `pitch_hop` seconds, 0 where there is no voice; `tones` of the Chinese
    syllables; `seams` between phrases. With the ears on: `heard`.
    """

    wav: bytes
    rate: int
    seconds: float
    rtf: float
    sentences: tuple[Sentence, ...]
    stages: tuple[tuple[str, float], ...]
    mel: np.ndarray
    mel_hop: float
    stopped: bool
    made: Made
    language: str
    normalised: str
    settings: str
    first_audio: float
    clipped: float
    pitch: np.ndarray
    pitch_hop: float
    tones: tuple[Toned, ...]
    seams: tuple[Seam, ...]
    heard: Trip | None = None
