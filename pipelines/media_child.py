"""The decoder that may die: a process of its own, with a memory limit, that reads one file from stdin, or the
pictures of one request after each other.

Run by media.py as a script, never imported by the app. Writes one JSON line, then raw RGB or float32 bytes; an
exception of a library ends the process, which the parent reports as a broken file. Imports only what it needs.
"""

from __future__ import annotations

import importlib
import io
import json
import math
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

MAX_CHANNELS = 8
RATES = (4_000, 192_000)  # hertz
FFMPEG_RATE = 48_000
BLOCK = 65_536  # samples read at once

IMAGES = (  # (first bytes, Pillow's format, its plugin)
    (b"\x89PNG\r\n\x1a\n", "PNG", "PngImagePlugin"),
    (b"\xff\xd8\xff", "JPEG", "JpegImagePlugin"),
    (b"GIF8", "GIF", "GifImagePlugin"),
    (b"BM", "BMP", "BmpImagePlugin"),
    (b"II*\0", "TIFF", "TiffImagePlugin"),
    (b"MM\0*", "TIFF", "TiffImagePlugin"),
)


class Refused(Exception):
    """A file the child understood and will not decode; `code` is a key of errors.toml."""

    def __init__(self, code: str, **params: Any) -> None:
        super().__init__(code)
        self.answer = {"error": code, "params": params}


def limit_memory(megabytes: int) -> None:
    """Let this process, and what it starts, have no more; a system without such limits has only the parent's clock."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limit_time(seconds: int, *, again: bool) -> None:
    """So many seconds of computing, for what it starts as well; `again`: so many more from now on, each time."""
    try:
        import resource
    except ImportError:
        return
    if not again:
        return resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    seconds += math.ceil(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (seconds if most == resource.RLIM_INFINITY else min(seconds, most), most))


def image_format(data: bytes) -> tuple[str, str]:
    """Pillow's format and plugin by content: a name says nothing. Raises Refused."""
    for magic, name, plugin in IMAGES:
        if data.startswith(magic):
            return name, plugin
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP", "WebPImagePlugin"
    raise Refused("not_an_image")


def decode_image(data: bytes, cap: int, side: int = 0) -> tuple[dict[str, Any], bytes]:
    """The first frame upright, in RGB, over white where it is transparent; refused by its header above `cap` pixels.

    `side`: the longer side is made at most so many pixels; 0 leaves it.
    """
    name, plugin = image_format(data)
    importlib.import_module(f"PIL.{plugin}")
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = cap
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        image = Image.open(io.BytesIO(data), formats=[name])
        if image.width * image.height > cap:
            raise Refused("image_too_large", limit=cap // 1_000_000)
        if side:
            image.draft(None, (2 * side, 2 * side))  # of a JPEG no more is computed than a good reduction needs
        image = on_white(ImageOps.exif_transpose(image))
        if side:
            image.thumbnail((side, side))
    except Image.UnidentifiedImageError:
        raise Refused("not_an_image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused("image_too_large", limit=cap // 1_000_000) from None
    return {"width": image.width, "height": image.height}, image.tobytes()


def on_white(image: Any) -> Any:
    """Any mode to RGB."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = image.point(lambda value: value * (1 / 256)).convert("L")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image, mask=image.getchannel("A"))
    return paper


def audio_container(data: bytes) -> str:
    """ "" for what libsndfile reads, else ffmpeg's name of the container. Raises Refused."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE" or data[:4] in (b"fLaC", b"OggS"):
        return ""
    if data[:3] == b"ID3" or (data[0] == 0xFF and len(data) > 1 and data[1] & 0xE0 == 0xE0):
        return ""
    if data[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if data[4:8] == b"ftyp":
        return "mov"
    raise Refused("not_audio")


def decode_audio(data: bytes, seconds: int) -> tuple[dict[str, Any], bytes]:
    """Mono float32 in [-1, 1], at most `seconds` long; a longer sound is refused, not cut."""
    container = audio_container(data)
    if container:
        data = through_ffmpeg(data, container, seconds)
    import numpy
    import soundfile

    try:
        file = soundfile.SoundFile(io.BytesIO(data))
    except soundfile.LibsndfileError:
        raise Refused("audio_broken") from None
    rate, channels = file.samplerate, file.channels
    if not RATES[0] <= rate <= RATES[1]:
        raise Refused("audio_rate", rate=rate, low=RATES[0], high=RATES[1])
    if channels > MAX_CHANNELS:
        raise Refused("audio_channels", channels=channels, limit=MAX_CHANNELS)
    if 0 < file.frames < 2**62 and file.frames > rate * seconds:
        raise Refused("audio_too_long", limit=seconds)
    blocks, total = [], 0
    while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
        total += len(block)
        if total > rate * seconds:
            raise Refused("audio_too_long", limit=seconds)
        blocks.append(block.mean(axis=1))
    if not total:
        raise Refused("audio_empty")
    samples = numpy.concatenate(blocks)
    if not numpy.isfinite(samples).all():
        raise Refused("audio_not_finite")
    return {"rate": rate}, samples.clip(-1, 1).tobytes()


def through_ffmpeg(data: bytes, container: str, seconds: int) -> bytes:
    """A WAV of at most one second more than allowed, so that too long is still seen. Raises Refused."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise Refused("no_ffmpeg")
    source = ["-protocol_whitelist", "pipe,file", "-f", container, "-i", "pipe:0"]
    wanted = ["-map", "0:a:0", "-vn", "-sn", "-dn", "-t", str(seconds + 1), "-ac", "1", "-ar", str(FFMPEG_RATE)]
    sink = ["-c:a", "pcm_s16le", "-fs", str(2 * FFMPEG_RATE * (seconds + 2)), "-f", "wav", "pipe:1"]
    command = [program, "-nostdin", "-v", "error", "-threads", "1", *source, *wanted, *sink]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode or len(done.stdout) <= 44:
        raise Refused("audio_broken")
    return done.stdout


DECODERS: dict[str, Callable[[bytes, int], tuple[dict[str, Any], bytes]]] = {
    "image": decode_image,
    "audio": decode_audio,
}


def answer(decode: Callable[[], tuple[dict[str, Any], bytes]]) -> None:
    try:
        header, body = decode()
    except Refused as refused:
        header, body = refused.answer, b""
    except MemoryError:
        header, body = {"error": "decode_memory", "params": {}}, b""
    sys.stdout.buffer.write(json.dumps(header).encode() + b"\n")
    sys.stdout.buffer.write(body)
    sys.stdout.buffer.flush()


def answer_each(cap: int, seconds: int, side: int) -> None:
    """Pictures until there are no more: each comes as its length (8 bytes, little-endian) and its bytes."""
    while size := sys.stdin.buffer.read(8):
        limit_time(seconds, again=True)
        data = sys.stdin.buffer.read(int.from_bytes(size, "little"))
        answer(lambda data=data: decode_image(data, cap, side))  # type: ignore[misc]


def main(kind: str, cap: str, megabytes: str, seconds: str, side: str = "0") -> None:
    limit_memory(int(megabytes))
    if kind == "pictures":
        return answer_each(int(cap), int(seconds), int(side))
    limit_time(int(seconds), again=False)
    answer(lambda: DECODERS[kind](sys.stdin.buffer.read(), int(cap)))


if __name__ == "__main__":
    main(*sys.argv[1:])
