"""The only place where foreign bytes become pixels or samples: sized, capped, decoded in a process that may die.

Takes a Path or bytes that the door knows to be the visitor's own; knows nothing of uploads, doors or models.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
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
_LINE = 4_096  # bytes of a child's answer before the pixels
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


class Decoder:
    """Pictures of ONE request, each as by decode("image", …), through one child: `with media.Decoder() as decoder`.

    A picture has the same limits as one that comes alone (bytes, pixels, memory, seconds). The child ends with the
    picture that breaks it, or with the block; the next picture gets another. What breaks a child that has decoded
    others is tried in a fresh one, so no picture suffers from those before it. Idle, it keeps nobody from decoding.
    For one thread. `side`: the longer side is made at most so many pixels (0: left as it is), far faster for a JPEG.
    """

    def __init__(self, side: int = 0) -> None:
        self._side = side
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def decode(self, value: Path | bytes) -> Image:
        """One picture, in RGB; raises InvalidInput, after which the next can be decoded."""
        data = _read(value)
        with _AT_ONCE:
            until = time.monotonic() + CLOCK
            if self._child is not None:
                with contextlib.suppress(_Broke):
                    return self._ask(self._child, data, until)
            self._child = subprocess.Popen(
                _command("pictures", MAX_IMAGE_PIXELS, self._side),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environ(),
            )
            return self._ask(self._child, data, until)

    def _ask(self, child: subprocess.Popen[bytes], data: bytes, until: float) -> Image:
        """Raises _Broke and other InvalidInput; there is no child any more after _Broke and decode_timeout."""
        late = threading.Event()

        def end() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(until - time.monotonic(), end)  # wakes us from every pipe, and on every system
        timer.start()
        try:
            header, body = _answer(child, data)
        except (OSError, EOFError, ValueError):
            _let_go(child)
            status = child.wait()
            self._child = None
            raise InvalidInput("decode_timeout", seconds=CLOCK) if late.is_set() else _broke("image", status) from None
        finally:
            timer.cancel()
        if header.get("error") == "decode_memory":
            self._end()
            raise _Broke("decode_memory")
        _check(header)
        from PIL import Image

        return Image.frombytes("RGB", (header["width"], header["height"]), body)

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            _let_go(self._child)
            self._child.wait()
            self._child = None


class _Broke(InvalidInput):
    """The child did not survive this file, or had no room for it."""


def _answer(child: subprocess.Popen[bytes], data: bytes) -> tuple[Mapping[str, Any], bytes]:
    """What a child says of one of many pictures; raises OSError, EOFError or ValueError where it makes no sense."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(len(data).to_bytes(8, "little"))
    child.stdin.write(data)
    child.stdin.flush()
    line = child.stdout.readline(_LINE)
    if not line.endswith(b"\n"):
        raise EOFError
    header = json.loads(line)
    if "error" in header:
        return header, b""
    pixels = int(header["width"]) * int(header["height"])
    if not 0 < pixels <= MAX_IMAGE_PIXELS:
        raise ValueError(pixels)
    body = child.stdout.read(3 * pixels)
    if len(body) < 3 * pixels:
        raise EOFError
    return header, body


def _let_go(child: subprocess.Popen[bytes]) -> None:
    """Close both pipes: a child that still lives has nothing more to read, and nobody to write to."""
    for pipe in (child.stdin, child.stdout):
        assert pipe is not None
        with contextlib.suppress(OSError):
            pipe.close()


def _in_child(kind: str, data: bytes) -> tuple[Mapping[str, Any], bytes]:
    command = _command(kind, MAX_IMAGE_PIXELS if kind == "image" else MAX_AUDIO_SECONDS)
    with _AT_ONCE:
        try:
            done = subprocess.run(command, input=data, capture_output=True, timeout=CLOCK, check=False, env=_environ())
        except subprocess.TimeoutExpired:
            raise InvalidInput("decode_timeout", seconds=CLOCK) from None
    line, _, body = done.stdout.partition(b"\n")
    if done.returncode or not line:
        raise _broke(kind, done.returncode)
    header = json.loads(line)
    _check(header)
    return header, body


def _command(kind: str, cap: int, *more: int) -> list[str]:
    return [sys.executable, "-I", str(_CHILD), kind, *map(str, (cap, MEMORY_MB, CLOCK, *more))]


def _broke(kind: str, status: int) -> _Broke:
    return _Broke("decode_memory" if status == -9 else f"{kind}_broken")  # -9: the system took it


def _check(header: Mapping[str, Any]) -> None:
    if code := header.get("error"):
        raise InvalidInput(code, **header["params"])


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


def plain_sound(wav: bytes, seconds: float | None = None) -> Sound:
    """A 16-bit mono WAV made here, or its first seconds. For foreign files there is decode()."""
    with wave.open(io.BytesIO(wav)) as file:
        rate = file.getframerate()
        count = file.getnframes() if seconds is None else round(seconds * rate)
        return Sound(np.frombuffer(file.readframes(count), dtype="<i2") / np.float32(32768), rate)


def comment(wav: bytes) -> str:
    """The comment in a WAV made here, such as the settings that made it, or ""."""
    at = 12
    while at + 8 <= len(wav):
        kind, size = wav[at : at + 4], int.from_bytes(wav[at + 4 : at + 8], "little")
        if kind == b"LIST" and wav[at + 8 : at + 16] == b"INFOICMT":
            length = int.from_bytes(wav[at + 16 : at + 20], "little")
            return wav[at + 20 : at + 20 + length].rstrip(b"\0").decode()
        at += 8 + size + size % 2
    return ""


def encode_sound(wav: bytes, format: str) -> bytes:
    """Our own 16-bit mono WAV in one of SOUND_TYPES, its comment kept where the format has room for one."""
    if format == "wav":
        return wav
    sound = plain_sound(wav)
    if format == "pcm":
        return pcm16(sound.resampled(PCM_RATE).samples)
    import soundfile

    out = io.BytesIO()
    container, subtype = ("OGG", "OPUS") if format == "opus" else (format.upper(), None)
    with soundfile.SoundFile(out, "w", sound.rate, 1, subtype, format=container) as file:
        if note := comment(wav):
            file.comment = note
        file.write((sound.samples * 32768).astype("<i2"))
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
