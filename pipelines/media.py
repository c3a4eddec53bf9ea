"""The only place where foreign bytes become pixels or samples: sized, capped, decoded in a process that may die.

Takes a Path or bytes that the door knows to be the visitor's own; knows nothing of uploads, doors or models.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import wave
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.core.errors import InvalidInput
from pipelines.core.settings import MAX_AUDIO_SECONDS, MAX_IMAGE_PIXELS, MAX_UPLOAD_MB

if TYPE_CHECKING:
    from PIL.Image import Image

MEMORY_MB = 1_500  # address space of one decoder
CLOCK = 20  # seconds for one file
MAX_IMAGES = 200  # in one request
SOUND_TYPES = {  # what encode_sound can make, with its media type
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "opus": "audio/ogg",
    "pcm": "audio/pcm",
}
PCM_RATE = 24_000  # hertz of headerless samples, by custom
_CHILD = Path(__file__).with_name("media_child.py")
_AT_ONCE = threading.BoundedSemaphore(min(4, os.cpu_count() or 1))  # decoders of the whole process


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """Mono sound: float32 samples [n] in [-1, 1] at `rate` hertz."""

    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate

    def resampled(self, rate: int) -> Sound:
        """The same sound at another rate."""
        if rate == self.rate:
            return self
        import soxr

        return Sound(soxr.resample(self.samples, self.rate, rate).astype(np.float32), rate)


def decode(kind: str, value: Any) -> Image | Sound | tuple[Image, ...]:
    """A picture ("image"), pictures ("images") or a sound ("audio") from files or bytes; raises InvalidInput.

    What is already decoded passes. A string is refused: which paths a visitor may name is for the door to know.
    """
    if kind == "images":
        return _decode_all(value)
    if _is_decoded(kind, value):
        return value.convert("RGB") if kind == "image" else value
    header, body = _in_child(kind, _read(value))
    if kind == "image":
        from PIL import Image

        return Image.frombytes("RGB", (header["width"], header["height"]), body)
    return Sound(np.frombuffer(body, dtype=np.float32), header["rate"])


def _decode_all(values: Iterable[Any]) -> tuple[Image, ...]:
    if not isinstance(values, list | tuple):
        raise InvalidInput("not_a_file")
    if len(values) > MAX_IMAGES:
        raise InvalidInput("too_many_images", count=len(values), limit=MAX_IMAGES)
    with ThreadPoolExecutor(max_workers=4, thread_name_prefix="decode") as pool:
        return tuple(pool.map(lambda value: decode("image", value), values))


def _is_decoded(kind: str, value: Any) -> bool:
    if kind == "audio":
        return isinstance(value, Sound)
    image = sys.modules.get("PIL.Image")  # nobody can hold a picture before it is imported
    if image is None or not isinstance(value, image.Image):
        return False
    if value.width * value.height > MAX_IMAGE_PIXELS:
        raise InvalidInput("image_too_large", limit=MAX_IMAGE_PIXELS // 1_000_000)
    return True


def _read(value: Any) -> bytes:
    """The file's bytes, within the upload limit."""
    limit = MAX_UPLOAD_MB << 20
    if isinstance(value, Path):
        try:
            with value.open("rb") as file:
                value = file.read(limit + 1)
        except OSError:
            raise InvalidInput("no_such_file", name=value.name[:80]) from None
    if not isinstance(value, bytes):
        raise InvalidInput("not_a_file")
    if not value:
        raise InvalidInput("empty_file")
    if len(value) > limit:
        raise InvalidInput("file_too_large", limit=MAX_UPLOAD_MB)
    return value


def _in_child(kind: str, data: bytes) -> tuple[Mapping[str, Any], bytes]:
    cap = MAX_IMAGE_PIXELS if kind == "image" else MAX_AUDIO_SECONDS
    command = [sys.executable, "-I", str(_CHILD), kind, str(cap), str(MEMORY_MB), str(CLOCK)]
    with _AT_ONCE:
        try:
            done = subprocess.run(command, input=data, capture_output=True, timeout=CLOCK, check=False, env=_environ())
        except subprocess.TimeoutExpired:
            raise InvalidInput("decode_timeout", seconds=CLOCK) from None
    line, _, body = done.stdout.partition(b"\n")
    if done.returncode == -9:  # the system took it: out of memory
        raise InvalidInput("decode_memory")
    if done.returncode or not line:
        raise InvalidInput(f"{kind}_broken")
    header = json.loads(line)
    if code := header.get("error"):
        raise InvalidInput(code, **header["params"])
    return header, body


def _environ() -> dict[str, str]:
    """No secrets of the host, and no threads of a linear-algebra library, each of which reserves address space."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT", "LANG") if name in os.environ}
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def encode_wav(samples: np.ndarray, rate: int) -> bytes:
    """A 16-bit mono WAV of float samples in [-1, 1]; the same samples give the same bytes."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm16(samples))
    return out.getvalue()


def pcm16(samples: np.ndarray) -> bytes:
    """Little-endian 16-bit samples."""
    return (np.clip(samples, -1.0, 1.0) * 32767.0).round().astype("<i2").tobytes()


def encode_sound(wav: bytes, format: str) -> bytes:
    """Our own 16-bit mono WAV in one of SOUND_TYPES."""
    if format == "wav":
        return wav
    with wave.open(io.BytesIO(wav)) as file:
        rate = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    if format == "pcm":
        return pcm16(Sound(samples / np.float32(32768), rate).resampled(PCM_RATE).samples)
    import soundfile

    out = io.BytesIO()
    container, subtype = ("OGG", "OPUS") if format == "opus" else (format.upper(), None)
    soundfile.write(out, samples, rate, format=container, subtype=subtype)
    return out.getvalue()


def encode_png(image: Image, text: Mapping[str, str]) -> bytes:
    """A PNG carrying `text` as UTF-8 notes, such as the settings that made it."""
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    for key, value in text.items():
        notes.add_itxt(key, value)
    out = io.BytesIO()
    image.save(out, format="PNG", pnginfo=notes)
    return out.getvalue()
