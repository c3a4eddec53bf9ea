"""Where the command line puts a sound, and in which form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from demos.cli_print import _Files
from pipelines.media import encode_wav


@pytest.mark.parametrize(("name", "format"), [("a.wav", "WAV"), ("a.flac", "FLAC"), ("A.FLAC", "FLAC")])
def test_a_sound_is_written_as_its_name_says(tmp_path: Path, name: str, format: str) -> None:
    files = _Files(tmp_path / name)
    files.save(encode_wav(np.zeros(2_400, np.float32), 24_000), "wav")
    with soundfile.SoundFile(files.written[0]) as file:
        assert (file.format, file.frames, file.samplerate) == (format, 2_400, 24_000)
