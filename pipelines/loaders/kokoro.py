"""Kokoro v1.0 as one ONNX file, with its voices and its phonemes; always on the CPU."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import reading
from pipelines.core.errors import ModelLoadFailed
from pipelines.core.specs import ModelSpec
from pipelines.loaders.adapters import NoAdapters
from pipelines.loaders.memory import give_back
from pipelines.loaders.onnx import session

_FILES = ("kokoro.onnx", "voices.npz", "vocab.json")
_RESIDENT = 1.4  # bytes the process grows by for each byte of weights, which are packed anew: measured 128 MB for 92 MB
_DURATIONS = "/encoder/Clip_output_0"  # the tensor of 25 ms steps each phoneme lasts, before they are laid out


@dataclass(slots=True)
class KokoroModel:
    """`styles` by voice, each (510, 1, 256) float32: row n-1 for n phonemes. `vocabulary`: phoneme to id.

    The session gives the samples and then the phonemes' lengths in steps of 25 ms, those of the two pads included.
    """

    session: Any
    vocabulary: dict[str, int]
    styles: dict[str, np.ndarray]
    voice: str
    weights: int


class KokoroLoader(NoAdapters):
    """Card options: `voice`, the one that speaks when none is asked for, `threads` (default 1)."""

    def load(self, spec: ModelSpec, folder: Path, device: str) -> KokoroModel:
        """A model from kokoro.onnx, voices.npz and vocab.json; raises ModelLoadFailed for what is not there."""
        for name in _FILES:
            if not (folder / name).is_file():
                raise ModelLoadFailed("file_missing", id=spec.id, file=name)
        weights, voices, vocabulary = (folder / name for name in _FILES)
        with np.load(voices, allow_pickle=False) as arrays:
            styles = {name: arrays[name] for name in arrays.files}
        voice = str(spec.options.get("voice", ""))
        if voice not in styles:
            raise ModelLoadFailed("option_unknown", id=spec.id, option="voice", value=voice[:40])
        reading.read("好。", "zh")  # opens the dictionaries, which stay: the first visitor does not wait for them
        return KokoroModel(
            session=session(weights, "cpu", int(spec.options.get("threads", 1)), arena=False, tap=_DURATIONS),
            vocabulary=json.loads(vocabulary.read_text(encoding="utf-8"))["vocab"],
            styles=styles,
            voice=voice,
            weights=weights.stat().st_size,
        )

    def measure(self, model: KokoroModel) -> int:
        """Bytes of the weights and the voices; not those of the dictionaries, which stay."""
        return int(_RESIDENT * model.weights) + sum(style.nbytes for style in model.styles.values())

    def free(self, model: KokoroModel) -> None:
        model.session = None
        model.styles.clear()
        give_back()
