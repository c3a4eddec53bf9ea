"""Bad input through the API, row by row, with the message in both languages; and nothing of the machine in it."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from PIL import Image

from demos.text import say
from tests.demos.conftest import Running

LEAKS = re.compile(r"0x[0-9a-f]{6,}|/tmp|/home|/root|/work|/usr|site-packages|Traceback|hf_[A-Za-z]")
HTML = "<img src=x onerror=alert(1)><script>alert(2)</script>"


def call(server: Running, name: str, body: dict[str, Any]) -> tuple[str, Any]:
    """(event, data) that ends a call of an endpoint."""
    started = httpx.post(f"{server.url}/gradio_api/call/v2/{name}", json=body, timeout=60)
    if started.status_code != 200:
        return "refused", started.json()
    url = f"{server.url}/gradio_api/call/{name}/{started.json()['event_id']}"
    lines = httpx.get(url, timeout=120).text.strip().splitlines()
    assert not LEAKS.search(lines[-1]) or "complete" in lines[-2]
    return lines[-2].removeprefix("event: "), json.loads(lines[-1].removeprefix("data: "))


def upload(server: Running, data: bytes, name: str = "x.bin") -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/gradio_api/upload", files={"files": (name, data)}, timeout=60)
    return {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}


def huge_png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    ihdr = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def nan_wav() -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.full(800, np.nan, np.float32), 16_000, format="WAV", subtype="FLOAT")
    return out.getvalue()


def saying(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


ROWS = [
    ("empty text", "speak", {"text": ""}, "empty"),
    ("nothing but blanks", "speak", {"text": " \n "}, "empty"),
    ("empty chat", "chat", {"messages": []}, "empty"),
    ("no picture", "caption", {}, "empty"),
    ("100k characters", "speak", {"text": "a" * 100_000}, "too_long"),
    ("100k characters of chat", "chat", saying("a" * 100_000), "too_long"),
    ("a word for a number", "chat", saying("hi", temperature="hot"), "wrong_type"),
    ("a list for a text", "speak", {"text": ["hi"]}, "wrong_type"),
    ("a text for a conversation", "chat", {"messages": "hi"}, "wrong_type"),
    ("a number out of range", "speak", {"text": "hi", "speed": 99}, "out_of_range"),
    ("no such choice", "chat", saying("hi", strategy="magic"), "not_a_choice"),
    ("unknown model", "speak", {"text": "hi", "model": "nope"}, "unknown_model"),
    ("a model of another task", "chat", saying("hi", model="hibari-heart"), "wrong_task"),
    ("unknown adapter", "chat", saying("hi", adapters=[{"id": "nope"}]), "unknown_adapter"),
    ("HTML as a model", "speak", {"text": "hi", "model": HTML}, "unknown_model"),
    ("HTML as a voice", "speak", {"text": "hi", "voice": HTML}, None),
    ("0 bytes", "caption", {"image": b""}, "empty_file"),
    ("20k x 20k pixels", "caption", {"image": huge_png()}, "image_too_large"),
    ("a text as a picture", "caption", {"image": b"hello"}, "not_an_image"),
    ("a PostScript file as a picture", "caption", {"image": b"%!PS-Adobe-3.0 EPSF-3.0"}, "not_an_image"),
    ("NaN sound", "emotion", {"audio": nan_wav()}, "audio_not_finite"),
    ("a picture as a sound", "emotion", {"audio": huge_png()}, "not_audio"),
    ("a path for a picture", "caption", {"image": "/etc/passwd"}, "not_an_upload"),
    ("a file of the server", "caption", {"image": {"path": "/etc/passwd"}}, "not_an_upload"),
]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(("name", "body", "code"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_the_message_says_what_is_wrong(server: Running, name: str, body: dict, code: str | None, lang: str) -> None:
    sent = {key: upload(server, value) if isinstance(value, bytes) else value for key, value in body.items()}
    event, data = call(server, name, {**sent, "lang": lang})
    message = data["error"]
    assert event == "error" and message
    assert code is None or message.endswith(f"[{code}]")
    assert bool(re.search(r"[\u4e00-\u9fff]", message)) is (lang == "zh")
    assert not LEAKS.search(message)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "assets/../app.py", "app.py", "http://127.0.0.1:9/x.png", "https://example.org/x.png", "\0", ""],
)
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_server_file_sent_as_an_upload_is_refused(server: Running, path: str, lang: str) -> None:
    body = {"image": {"path": path, "meta": {"_type": "gradio.FileData"}}}
    answer = httpx.post(
        f"{server.url}/gradio_api/call/v2/caption", json=body, headers={"accept-language": lang}, timeout=30
    )
    assert answer.status_code == 422
    assert answer.json()["error"] == {
        "message": say("not_an_upload", lang, name="path"),
        "type": "invalid_request_error",
        "param": None,
        "code": "not_an_upload",
    }


def test_a_picture_of_the_server_is_refused_though_it_could_be_read(server: Running, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (8, 8)).save(secret)
    body = {"data": [{"path": str(secret), "meta": {"_type": "gradio.FileData"}}], "fn_index": 0, "session_hash": "x"}
    assert httpx.post(f"{server.url}/gradio_api/queue/join", json=body).status_code == 422
    nested = {"data": [[{"image": body["data"][0]}]], "fn_index": 0, "session_hash": "x"}
    assert httpx.post(f"{server.url}/gradio_api/queue/join", json=nested).status_code == 422


def test_hostile_file_names_stay_in_the_upload_folder(server: Running) -> None:
    for name in ("../../../etc/cron.d/x", "..\\..\\x.png", "a\0b.png", "<script>.png", "CON.txt", "x" * 300 + ".png"):
        given = upload(server, b"hello", name)
        found = Path(given["path"]).resolve()
        assert found.is_relative_to(server.folder.resolve())
        assert call(server, "caption", {"image": given})[1]["error"].endswith("[not_an_image]")


def test_every_wrong_value_is_named_at_once(server: Running) -> None:
    _, data = call(server, "chat", saying("hi", temperature=9, top_p=7))
    assert "9" in data["error"] and "7" in data["error"]


@pytest.mark.parametrize("body", [{"bogus": 1}, {"text": "hi", "image": {}}])
def test_an_unknown_parameter_is_the_clients_fault(server: Running, body: dict[str, Any]) -> None:
    answer = httpx.post(f"{server.url}/gradio_api/call/v2/speak", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "bad_call"


def test_a_body_that_is_no_json_is_the_clients_fault(server: Running) -> None:
    deep = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    for content in (b"", b"{", deep):
        answer = httpx.post(
            f"{server.url}/gradio_api/call/v2/speak", content=content, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 400
        assert not LEAKS.search(answer.text)


def test_files_of_the_program_are_not_served(server: Running) -> None:
    root = server.house.settings.root
    for path in ("/etc/passwd", f"{root}/app.py", f"{root}/demos/server.py", "app.py", f"{root}/assets/../app.py"):
        answer = httpx.get(f"{server.url}/gradio_api/file={path}")
        assert answer.status_code in (403, 404), path
