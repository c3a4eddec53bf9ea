"""Sound on its way to the disk, so that an hour of it takes no more memory than a minute. Knows WAV, no voice."""

from __future__ import annotations

import struct
import tempfile
import wave
from types import TracebackType

import numpy as np

from pipelines import media

HEADER = 44  # bytes before the samples


class Recording:
    """16-bit mono samples in a file that goes when it is closed."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.length = 0  # samples so far
        self.clipped = 0  # of those, how many were beyond full scale
        self._file = tempfile.TemporaryFile(prefix="speech-")  # noqa: SIM115 - closed by close()
        self._wave = wave.open(self._file, "wb")  # noqa: SIM115
        self._wave.setparams((1, 2, rate, 0, "NONE", ""))

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def seconds(self) -> float:
        return self.length / self.rate

    def add(self, samples: np.ndarray) -> np.ndarray:
        """Append float samples; what is beyond full scale is cut off and counted. Returns them as int16."""
        if len(samples) and max(samples.max(), -samples.min()) > 1.0:
            self.clipped += int(np.count_nonzero(np.abs(samples) > 1.0))
        self.length += len(samples)
        data = media.pcm16(samples)
        self._wave.writeframesraw(data)
        return np.frombuffer(data, "<i2")

    def samples(self) -> np.ndarray:
        """All samples so far, int16, read from the disk where they are looked at."""
        self._file.flush()
        if not self.length:
            return np.zeros(0, "<i2")
        return np.memmap(self._file, "<i2", "r", HEADER, (self.length,)).view(np.ndarray)

    def wav(self, note: str = "") -> bytes:
        """The whole file, with a note as its comment after the sound. Nothing can be added afterwards."""
        self._wave.close()
        self._file.seek(0, 2)
        if note:
            self._file.write(_comment(note))
        size = self._file.tell()
        self._file.seek(4)
        self._file.write(struct.pack("<I", size - 8))
        self._file.seek(0)
        return self._file.read()

    def close(self) -> None:
        self._wave.close()
        self._file.close()


def _comment(note: str) -> bytes:
    """A LIST chunk of INFO with the note as ICMT, in UTF-8."""
    text = note.encode() + b"\0"
    text += b"\0" * (len(text) % 2)
    body = b"INFO" + b"ICMT" + struct.pack("<I", len(text)) + text
    return b"LIST" + struct.pack("<I", len(body)) + body
