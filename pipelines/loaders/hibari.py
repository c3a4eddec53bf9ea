"""hibari's small speech models: one ONNX file and a pronunciation dictionary, always on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.core.errors import ModelLoadFailed
from pipelines.core.specs import ModelSpec
from pipelines.loaders.adapters import NoAdapters
from pipelines.loaders.memory import give_back, object_bytes

_RESIDENT = 2  # bytes the process grows by for each byte of dictionary objects: measured 105 MB for 52 MB


class HibariLoader(NoAdapters):
    """Card options: `voice`, a name of hibari.voices (default "heart"): it picks British or American rules."""

    def load(self, spec: ModelSpec, folder: Path, device: str) -> Any:
        """A hibari.Hibari that has spoken once, so that the first visitor does not wait for its dictionary."""
        from hibari import Hibari
        from hibari.voices import VOICES

        voice = str(spec.options.get("voice", "heart"))
        if voice not in VOICES:
            raise ModelLoadFailed("option_unknown", id=spec.id, option="voice", value=voice[:40])
        speaker = Hibari(voice=voice, model=str(_file(spec, folder)), threads=1)
        speaker("Hello.", seed=0)
        return speaker

    def measure(self, model: Any) -> int:
        """Bytes of the network's weights and of the dictionary, which is the larger part."""
        return Path(model.model_path).stat().st_size + _RESIDENT * object_bytes(model.g2p)

    def free(self, model: Any) -> None:
        model.sess = model._g2p = None
        give_back()


def _file(spec: ModelSpec, folder: Path) -> Path:
    path = folder if folder.is_file() else folder / str(spec.options.get("file", "hibari.onnx"))
    if not path.is_file():
        raise ModelLoadFailed("file_missing", id=spec.id, file=path.name)
    return path
