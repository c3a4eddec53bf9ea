"""Foreign bytes: what is decoded, what is refused, and with which code."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from pipelines import media
from pipelines.core.errors import Cancelled, InvalidInput
from pipelines.core.streaming import Stop
from pipelines.media import Sound, decode, encode_png, encode_wav

RATE = 16_000
TONE = (0.5 * np.sin(np.arange(RATE) * 0.1)).astype(np.float32)


def picture(format: str, mode: str = "RGB", colour: object = (200, 30, 30), **options: object) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (40, 20), colour).save(out, format=format, **options)
    return out.getvalue()


def sound(samples: np.ndarray, format: str = "WAV", rate: int = RATE, **options: str) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=format, **options)
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def wav_header(rate: int, channels: int, frames: int = 100) -> bytes:
    body = b"\0\0" * channels * frames
    block = min(2 * channels, 65535)
    fmt = struct.pack("<HHIIHH", 1, channels, rate, (rate * block) & 0xFFFFFFFF, block, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + fmt + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WAVE" + chunks


def refusal(kind: str, value: object) -> str:
    with pytest.raises(InvalidInput) as caught:
        decode(kind, value)
    return caught.value.code


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_six_formats_become_rgb(format: str) -> None:
    image = decode("image", picture(format))
    assert (image.mode, image.size) == ("RGB", (40, 20))
    assert max(abs(a - b) for a, b in zip(image.getpixel((5, 5)), (200, 30, 30), strict=True)) < 12


def test_a_path_is_read_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "../; rm -rf ~ #<b>.txt".replace("/", "_")
    path.write_bytes(picture("PNG"))
    assert decode("image", path).size == (40, 20)


def test_transparency_is_laid_over_white() -> None:
    assert decode("image", picture("PNG", "RGBA", (0, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    assert decode("image", picture("PNG", "I;16", 32768)).getpixel((0, 0)) == (128, 128, 128)


def test_a_photo_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode("image", picture("JPEG", exif=exif)).size == (20, 40)


def test_an_animation_gives_its_first_frame() -> None:
    out = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(out, format="GIF", save_all=True, append_images=frames[1:])
    red, _, blue = decode("image", out.getvalue()).getpixel((0, 0))
    assert red > 250 and blue < 5


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"hello", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"\x89PNG\r\n\x1a\n" + b"junk" * 20, "image_broken"),
        (png_header(20_000, 20_000), "image_too_large"),
        (png_header(5_000, 4_000), "image_too_large"),
        (picture("JPEG")[:300], "image_broken"),
        (b"x" * (20 * 2**20 + 1), "file_too_large"),
    ],
)
def test_bad_pictures_are_refused(data: bytes, code: str) -> None:
    assert refusal("image", data) == code


@pytest.mark.parametrize("value", ["/etc/hostname", 3, {"path": "x"}, None])
def test_only_paths_and_bytes_are_files(value: object) -> None:
    assert refusal("image", value) == "not_a_file"
    assert refusal("audio", value) == "not_a_file"


def test_a_missing_file_is_named_without_its_folder(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode("image", tmp_path / "gone.png")
    assert caught.value.params == {"name": "gone.png"}


def test_several_pictures_keep_their_order() -> None:
    files = [picture("PNG", colour=(shade, 0, 0)) for shade in (10, 20, 30)]
    assert [image.getpixel((0, 0))[0] for image in decode("images", files)] == [10, 20, 30]
    assert refusal("images", [b"x"] * (media.MAX_IMAGES + 1)) == "too_many_images"
    assert refusal("images", b"x") == "not_a_file"


def test_what_is_decoded_passes() -> None:
    tone = Sound(TONE, RATE)
    assert decode("audio", tone) is tone
    assert decode("image", Image.new("L", (3, 3))).mode == "RGB"
    assert refusal("image", Image.new("1", (5_000, 4_000))) == "image_too_large"


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3"])
def test_the_four_audio_formats_become_mono_floats(format: str) -> None:
    made = decode("audio", sound(np.stack([TONE, TONE], axis=1), format))
    assert made.rate == RATE
    assert made.samples.dtype == np.float32 and made.samples.ndim == 1
    assert abs(made.seconds - 1.0) < 0.1
    assert 0.4 < np.abs(made.samples).max() < 0.6


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize(("name", "codec"), [("webm", "libopus"), ("ipod", "aac")])
def test_browser_and_phone_recordings_go_through_ffmpeg(name: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    command = ["ffmpeg", "-v", "error", "-i", "pipe:0", "-c:a", codec, "-f", name, str(path)]
    subprocess.run(command, input=sound(TONE), check=True)
    assert abs(decode("audio", path).seconds - 1.0) < 0.2


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"#EXTM3U\nhttp://127.0.0.1/x.ts\n", "not_audio"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not_audio"),
        (picture("PNG"), "not_audio"),
        (b"RIFF\x10\0\0\0WAVEjunk", "audio_broken"),
        (b"\x1aE\xdf\xa3" + b"\0" * 40, "audio_broken" if shutil.which("ffmpeg") else "no_ffmpeg"),
        (sound(TONE[:0]), "audio_empty"),
        (sound(np.full(100, np.nan, np.float32), subtype="FLOAT"), "audio_not_finite"),
        (sound(np.full(100, np.inf, np.float32), subtype="FLOAT"), "audio_not_finite"),
        (sound(np.zeros((100, 9), np.float32)), "audio_channels"),
        (wav_header(RATE, 65_535, frames=1), "audio_broken"),
        (wav_header(3_000, 1), "audio_rate"),
        (sound(np.zeros(8_000 * 121, np.int16), "FLAC", 8_000), "audio_too_long"),
    ],
)
def test_bad_sounds_are_refused(data: bytes, code: str) -> None:
    assert refusal("audio", data) == code


def test_a_wav_of_rate_zero_is_refused() -> None:
    assert refusal("audio", wav_header(0, 1)) in ("audio_rate", "audio_broken")


def test_an_hour_of_silence_costs_no_memory_here() -> None:
    import resource

    bomb = sound(np.zeros(3_600 * 8_000, np.int16), "FLAC", 8_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refusal("audio", bomb) == "audio_too_long"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_decoder_without_room_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MEMORY_MB", 90)
    assert refusal("image", picture_of(3_900)) == "decode_memory"


def picture_of(side: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side)).save(out, format="PNG")
    return out.getvalue()


def test_a_slow_decoder_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "CLOCK", 0.001)
    assert refusal("image", picture("PNG")) == "decode_timeout"


# -- many pictures through one child ----------------------------------------------------------------


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Every decoder that is started, in order."""
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*args: object, **options: object) -> subprocess.Popen[bytes]:
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return started


def tried(decoder: media.Decoder, data: bytes | Path) -> object:
    """The first pixel's red, or the code of the error."""
    try:
        return decoder.decode(data).getpixel((0, 0))[0]
    except InvalidInput as error:
        return error.code


def test_many_pictures_share_one_child(children: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(picture("BMP"))
    files = [picture("PNG", colour=(10, 0, 0)), tmp_path / "a", picture("GIF", colour=(30, 0, 0)), tmp_path / "gone"]
    with media.Decoder() as decoder:
        assert [tried(decoder, file) for file in files] == [10, 200, 30, "no_such_file"]
        assert len(children) == 1 and children[0].poll() is None
        assert decoder.decode(tmp_path / "a").tobytes() == decode("image", tmp_path / "a").tobytes()
    assert children[0].returncode is not None
    assert children[0].stdin.closed and children[0].stdout.closed


def test_what_is_refused_costs_no_child(children: list[subprocess.Popen[bytes]]) -> None:
    files = [b"hello", png_header(20_000, 20_000), png_header(5_000, 4_000), b"", b"x" * (20 * 2**20 + 1)]
    codes = ["not_an_image", "image_too_large", "image_too_large", "empty_file", "file_too_large"]
    with media.Decoder() as decoder:
        assert [tried(decoder, file) for file in files] == codes
        assert tried(decoder, picture("PNG")) == 200
    assert len(children) == 1


def test_a_broken_picture_is_tried_in_a_fresh_child(children: list[subprocess.Popen[bytes]]) -> None:
    good, broken = picture("PNG"), picture("JPEG")[:300]
    with media.Decoder() as decoder:
        assert [tried(decoder, file) for file in (good, broken, good)] == [200, "image_broken", 200]
        assert len(children) == 3
        assert [child.poll() is None for child in children] == [False, False, True]


def test_a_child_that_was_killed_is_replaced(children: list[subprocess.Popen[bytes]]) -> None:
    with media.Decoder() as decoder:
        assert tried(decoder, picture("PNG")) == 200
        children[0].kill()
        assert tried(decoder, picture("PNG")) == 200
    assert len(children) == 2 and all(child.returncode is not None for child in children)


def test_a_picture_that_kills_its_child_is_its_own_error(
    children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(media, "_CHILD", script(tmp_path, "os.kill(os.getpid(), 9)"))
    with media.Decoder() as decoder:
        assert [tried(decoder, file) for file in (picture("PNG"), b"evil", picture("PNG"))] == [
            200,
            "decode_memory",
            200,
        ]
    assert all(child.returncode is not None for child in children)


@pytest.mark.parametrize(
    ("evil", "code"),
    [
        ("time.sleep(60)", "decode_timeout"),
        ("os.close(0); os.close(1); time.sleep(60)", "decode_timeout"),
        ('print(\'{"width": 90000, "height": 90000}\', flush=True)', "image_broken"),
        ('print(\'{"width": 9, "height": 9}\', flush=True); os._exit(0)', "image_broken"),
        ("print('junk', flush=True)", "image_broken"),
    ],
)
def test_a_child_that_answers_nonsense_or_nothing_is_ended(
    evil: str, code: str, children: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(media, "_CHILD", script(tmp_path, evil))
    with media.Decoder() as decoder:
        assert tried(decoder, picture("PNG")) == 200
        with monkeypatch.context() as quick:
            if code == "decode_timeout":
                quick.setattr(media, "CLOCK", 1)
            assert tried(decoder, b"evil") == code
        assert tried(decoder, picture("PNG")) == 200
    assert all(child.returncode is not None for child in children)


def script(folder: Path, evil: str) -> Path:
    """The decoder, which does something evil when it is given b"evil"."""
    path = folder / "child.py"
    path.write_text(
        f"import sys, os, time\nsys.path.insert(0, {str(media._CHILD.parent)!r})\nimport media_child as child\n"
        "whole = child.decode_image\n"
        "def decode_image(data, *rest):\n"
        "    if data == b'evil':\n"
        f"        {evil}\n"
        "    return whole(data, *rest)\n"
        "child.decode_image = decode_image\n"
        "child.main(*sys.argv[1:])\n"
    )
    return path


def test_every_picture_has_the_memory_of_a_single_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "MEMORY_MB", 90)
    with media.Decoder() as decoder:
        files = [picture("PNG"), picture_of(3_900), picture("PNG")]
        assert [tried(decoder, file) for file in files] == [200, "decode_memory", 200]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_pictures_leave_no_memory_behind(children: list[subprocess.Popen[bytes]]) -> None:
    large = picture_of(3_900)
    with media.Decoder() as decoder:
        decoder.decode(picture("PNG"))
        before = resident(children[0].pid)
        for _ in range(2):
            decoder.decode(large)
        assert resident(children[0].pid) - before < 20 << 20  # one is 45 MB
    assert len(children) == 1


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limits")
def test_every_picture_has_seconds_of_its_own() -> None:
    import resource

    told = (
        f"import sys, resource\nsys.path.insert(0, {str(media._CHILD.parent)!r})\nimport media_child as child\n"
        "used = iter([0.2, 7.5])\n"
        "child.time.process_time = lambda: next(used)\n"
        "child.decode_image = lambda *_: ({'limits': resource.getrlimit(resource.RLIMIT_CPU)}, b'')\n"
        "child.main('pictures', '1', '500', '20')\n"
    )
    two = 2 * ((3).to_bytes(8, "little") + b"abc")
    done = subprocess.run([sys.executable, "-c", told], input=two, capture_output=True, check=True)
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"limits": [n, most]} for n in (21, 28)]


def test_an_idle_decoder_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "_AT_ONCE", threading.BoundedSemaphore(1))
    with media.Decoder() as first, media.Decoder() as second:
        assert [tried(decoder, picture("PNG")) for decoder in (first, second, first)] == [200, 200, 200]
        assert decode("image", picture("PNG")).size == (40, 20)


def test_a_stop_between_pictures_ends_the_child(children: list[subprocess.Popen[bytes]]) -> None:
    stop = Stop()
    with pytest.raises(Cancelled), media.Decoder() as decoder:
        for _ in range(3):
            stop.check()
            assert tried(decoder, picture("PNG")) == 200
            stop.set()
    assert [child.returncode is not None for child in children] == [True]


def test_pictures_can_be_made_smaller_on_the_way(children: list[subprocess.Popen[bytes]]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    large = io.BytesIO()
    Image.new("RGB", (1_000, 500), (200, 30, 30)).save(large, format="JPEG", exif=exif)
    with media.Decoder(side=100) as decoder:
        assert decoder.decode(large.getvalue()).size == (50, 100)
        assert decoder.decode(picture("PNG")).size == (40, 20)
        assert tried(decoder, png_header(20_000, 20_000)) == "image_too_large"


def test_resampling_keeps_length_and_rate() -> None:
    made = Sound(TONE, RATE).resampled(24_000)
    assert made.rate == 24_000
    assert abs(made.seconds - 1.0) < 0.01


def test_wav_bytes_are_the_same_every_time_and_read_back() -> None:
    data = encode_wav(TONE, RATE)
    assert data == encode_wav(TONE.copy(), RATE)
    assert np.abs(decode("audio", data).samples - TONE).max() < 1e-3


@pytest.mark.parametrize("format", ["mp3", "wav", "flac", "opus"])
def test_our_own_speech_is_encoded_in_every_offered_format(format: str) -> None:
    made = decode("audio", media.encode_sound(encode_wav(TONE, 24_000), format))
    assert abs(made.seconds - RATE / 24_000) < 0.1


def test_headerless_samples_are_at_24_khz() -> None:
    data = media.encode_sound(encode_wav(TONE, RATE), "pcm")
    assert abs(len(data) / 2 - 24_000) < 100


def test_png_carries_its_settings() -> None:
    data = encode_png(Image.new("RGB", (4, 4)), {"parameters": '{"prompt": "猫"}'})
    assert Image.open(io.BytesIO(data)).text["parameters"] == '{"prompt": "猫"}'
