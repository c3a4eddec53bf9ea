"""hibari's small speech models: one ONNX file and a pronunciation dictionary, always on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.core.errors import ModelLoadFailed
from pipelines.core.specs import ModelSpec
from pipelines.loaders.adapters import NoAdapters
from pipelines.loaders.memory import give_back, object_bytes
from pipelines.loaders.onnx import session

_RESIDENT = 2  # bytes the process grows by for each byte of dictionary objects: measured 105 MB for 52 MB
_DURATIONS = "/Clip_output_0"  # the tensor of 25 ms steps each phoneme lasts, before they are laid out


class HibariLoader(NoAdapters):
    """Card options: `voice`, a name of hibari.voices (default "heart"): it picks British or American rules."""

    def load(self, spec: ModelSpec, folder: Path, device: str) -> Any:
        """A hibari.Hibari that has spoken once, so that the first visitor does not wait for its dictionary. Its session
        gives the phonemes' lengths as one more output, the last, in steps of 25 ms.
        """
        from hibari.voices import VOICES

        voice = str(spec.options.get("voice", "heart"))
        if voice not in VOICES:
            raise ModelLoadFailed("option_unknown", id=spec.id, option="voice", value=voice[:40])
        path = _file(spec, folder)
        speaker = _speaker()(voice=voice, model=str(path), threads=1)
        speaker.sess = session(path, "cpu", 1, tap=_DURATIONS)
        speaker("Hello.", seed=0)
        return speaker

    def measure(self, model: Any) -> int:
        """Bytes of the network's weights and of the dictionary, which is the larger part."""
        return Path(model.model_path).stat().st_size + _RESIDENT * object_bytes(model.g2p)

    def free(self, model: Any) -> None:
        model.sess = model._g2p = None
        give_back()


def _speaker() -> type:
    from hibari import Hibari, dsp

    class Speaker(Hibari):  # type: ignore[misc]
        def from_ids(self, ids: list[int], speed: float = 1.0, rng: np.random.Generator | None = None) -> np.ndarray:
            """As the library's, of a session with an output more."""
            feeds = {"ids": np.asarray([ids], np.int64), "speed": np.asarray([speed], np.float32)}
            *spectrum, _ = self.sess.run(None, feeds)
            return dsp.synth(*(part[0] for part in spectrum), rng or np.random.default_rng())  # type: ignore[no-any-return]

    return Speaker


def _file(spec: ModelSpec, folder: Path) -> Path:
    path = folder if folder.is_file() else folder / str(spec.options.get("file", "hibari.onnx"))
    if not path.is_file():
        raise ModelLoadFailed("file_missing", id=spec.id, file=path.name)
    return path
