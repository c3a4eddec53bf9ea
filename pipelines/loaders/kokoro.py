"""Kokoro v1.0 as one ONNX file, with its voices, its phonemes and a reader of Chinese; always on the CPU."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.core.errors import ModelLoadFailed
from pipelines.core.specs import ModelSpec
from pipelines.loaders.adapters import NoAdapters
from pipelines.loaders.memory import give_back
from pipelines.loaders.onnx import session
from pipelines.mandarin import Mandarin

_FILES = ("kokoro.onnx", "voices.npz", "vocab.json")
_RESIDENT = 1.4  # bytes the process grows by for each byte of weights, which are packed anew: measured 128 MB for 92 MB


@dataclass(slots=True)
class KokoroModel:
    """`styles` by voice, each (510, 1, 256) float32: row n-1 for n phonemes. `vocabulary`: phoneme to id."""

    session: Any
    vocabulary: dict[str, int]
    styles: dict[str, np.ndarray]
    voice: str
    reader: Mandarin
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
        return KokoroModel(
            session=session(weights, "cpu", int(spec.options.get("threads", 1)), arena=False),
            vocabulary=json.loads(vocabulary.read_text(encoding="utf-8"))["vocab"],
            styles=styles,
            voice=voice,
            reader=Mandarin(),
            weights=weights.stat().st_size,
        )

    def measure(self, model: KokoroModel) -> int:
        """Bytes of the weights, the voices and the dictionary of words; not those of pypinyin, which stays."""
        styles = sum(style.nbytes for style in model.styles.values())
        words = model.reader.dictionary
        dictionary = sys.getsizeof(words) + sum(map(sys.getsizeof, words))
        return int(_RESIDENT * model.weights) + styles + dictionary

    def free(self, model: KokoroModel) -> None:
        model.session = model.reader = None
        model.styles.clear()
        give_back()
