"""One request by the page's API, OpenAI's routes and the command line: the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from gradio_client import Client

from pipelines.core.settings import Settings
from tests.demos.conftest import Running

PROMPT = "Name three colours."
TEXT = "The same words, three ways."


def cli(settings: Settings, *arguments: str) -> dict[str, Any]:
    env = {**os.environ, "SYNESTHESIA_CACHE": str(settings.cache), "SYNESTHESIA_DEVICE": "cpu"}
    command = [sys.executable, str(settings.root / "app.py"), "--offline", "--json", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_a_chat_gives_the_same_text(server: Running, settings: Settings) -> None:
    limits = {"max_new_tokens": 16, "temperature": 0.9, "top_p": 0.95, "seed": 7}
    messages = [{"role": "user", "content": PROMPT}]
    rest = Client(server.url, verbose=False).predict(messages=messages, api_name="/chat", **limits)["text"]
    body = {"model": "default", "messages": messages, "max_tokens": 16, "temperature": 0.9, "top_p": 0.95, "seed": 7}
    openai = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=120).json()
    flags = ["--max-new-tokens", "16", "--temperature", "0.9", "--top-p", "0.95", "--seed", "7"]
    line = cli(settings, "chat", PROMPT, *flags)["text"]
    assert rest and rest == openai["choices"][0]["message"]["content"] == line


def test_speech_gives_the_same_wav(server: Running, settings: Settings, tmp_path: Path) -> None:
    rest = Client(server.url, verbose=False).predict(text=TEXT, seed=7, api_name="/speak")["wav"]
    body = {"input": TEXT, "seed": 7, "response_format": "wav"}
    openai = httpx.post(f"{server.url}/v1/audio/speech", json=body, timeout=120).content
    out = tmp_path / "out.wav"
    cli(settings, "speak", TEXT, "--seed", "7", "-o", str(out))
    assert len(openai) > 10_000
    assert Path(rest).read_bytes() == openai == out.read_bytes()
