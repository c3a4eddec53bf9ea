"""Whisper in CTranslate2's form, by faster-whisper; always on the CPU, in 8 bits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.core.errors import ModelLoadFailed
from pipelines.core.specs import ModelSpec
from pipelines.loaders.adapters import NoAdapters
from pipelines.loaders.memory import give_back

_FILES = ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
_RESIDENT = 0.75  # bytes held for each stored in 16 bits: 8-bit weights, and the tokenizer beside them


@dataclass(slots=True)
class WhisperModel:
    """A faster_whisper.WhisperModel and the bytes it holds."""

    model: Any
    size: int


class WhisperLoader(NoAdapters):
    """Card option: `threads` (default 2)."""

    def load(self, spec: ModelSpec, folder: Path, device: str) -> WhisperModel:
        """From a folder of CTranslate2's; raises ModelLoadFailed for a file that is not there."""
        for name in _FILES:
            if not (folder / name).is_file():
                raise ModelLoadFailed("file_missing", id=spec.id, file=name)
        import faster_whisper

        threads = int(spec.options.get("threads", 2))
        model = faster_whisper.WhisperModel(
            str(folder), device="cpu", compute_type="int8", cpu_threads=threads, local_files_only=True
        )
        return WhisperModel(model, int(_RESIDENT * (folder / "model.bin").stat().st_size))

    def measure(self, model: WhisperModel) -> int:
        return model.size

    def free(self, model: WhisperModel) -> None:
        model.model.model.unload_model()
        model.model = None
        give_back()
