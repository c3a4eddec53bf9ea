"""The command line: what it prints where, its exit codes, its languages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import wave
from pathlib import Path

import pytest
from PIL import Image

from demos.cli import build_parser, main
from pipelines.core.settings import Settings


@pytest.fixture(autouse=True)
def environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNESTHESIA_CACHE", str(settings.cache))
    monkeypatch.setenv("SYNESTHESIA_OFFLINE", "1")
    monkeypatch.setenv("SYNESTHESIA_DEVICE", "cpu")
    monkeypatch.delenv("LC_ALL", raising=False)
    monkeypatch.setenv("LANG", "en_US.UTF-8")


def test_speak_writes_a_wav_and_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "hello.wav"
    assert main(["speak", "Hello.", "-o", str(out), "--seed", "7"]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(out)
    assert "hibari-heart" in printed.err
    with wave.open(str(out)) as file:
        assert file.getframerate() == 24_000 and file.getnframes() > 10_000


def test_chat_puts_the_answer_on_stdout_and_the_rest_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "Say hello.", "--max-new-tokens", "8", "--temperature", "0"]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() and "smollm2" not in printed.out
    assert "smollm2-135m" in printed.err


def test_json_is_one_object_and_flags_may_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--json", "chat", "Say hello.", "--max-new-tokens", "4", "--seed", "1"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["completion_tokens"] == 4 and value["made"]["seed"] == 1


def test_chat_reads_turns_from_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr(sys, "stdin", io.StringIO("Say hello.\n\nAnd again.\n"))
    assert main(["--json", "chat", "--max-new-tokens", "3"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert second["prompt_tokens"] > first["prompt_tokens"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["speak", ""], "empty"),
        (["speak", "hi", "--speed", "99"], "out_of_range"),
        (["speak", "hi", "--speed", "fast"], "wrong_type"),
        (["speak", "hi", "--model", "nope"], "unknown_model"),
        (["chat", "hi", "--adapter", "nope:0.5"], "unknown_adapter"),
        (["caption", "/no/such/picture.png"], "no_such_file"),
        (["caption", __file__], "not_an_image"),
        (["evaluate", "reasoning", "--data", "/no/such/file"], "no_such_file"),
        (["evaluate", "reasoning", "--data", __file__, "--option", "bogus=1"], "unknown_parameter"),
        (["evaluate", "reasoning", "--data", __file__, "--method", "neural"], "unknown_parameter"),
        (["evaluate", "emotion", "--data", __file__, "--limit", "5"], "unknown_parameter"),
        (["evaluate", "retrieval", "--data", __file__, "--limit", "-1"], "out_of_range"),
        (["evaluate", "retrieval", "--data", __file__, "--method", "magic"], "not_a_choice"),
        (["evaluate", "captioning", "--data", __file__, "--method", "magic"], "not_a_choice"),
        (["evaluate", "captioning", "--data", __file__, "--limit", "-1"], "out_of_range"),
        (["evaluate", "captioning", "--data", __file__], "row_not_json"),
    ],
)
def test_bad_input_ends_with_2_and_a_message_in_both_languages(
    arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    english = capsys.readouterr()
    assert main([*arguments, "--lang", "zh"]) == 2
    chinese = capsys.readouterr()
    assert english.out == chinese.out == ""
    assert english.err.strip().startswith("error: ") and english.err.strip().endswith(f"[{code}]")
    assert chinese.err.strip().startswith("错误: ") and chinese.err.strip().endswith(f"[{code}]")


def test_a_model_that_is_not_here_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "x.png"
    Image.new("RGB", (8, 8)).save(picture)
    assert main(["caption", str(picture), "--model", "blip-base"]) == 1
    assert "[offline_not_cached]" in capsys.readouterr().err


def test_the_language_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    main(["speak", ""])
    assert "错误" in capsys.readouterr().err


def test_evaluate_prints_flat_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "sums.jsonl"
    data.write_text(json.dumps({"question": "1+1?", "answer": "2"}) + "\n", encoding="utf-8")
    assert main(["evaluate", "reasoning", "--data", str(data), "--json", "--option", "max_new_tokens=4"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["n"] == 1 and {"accuracy", "seconds_per_item"} <= set(figures)
    assert all(isinstance(value, int | float) for value in figures.values())


def test_evaluate_hands_its_flags_to_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[dict[str, object]] = []

    def evaluate(self: object, path: Path, job: object, **options: object) -> dict[str, float]:
        told.append(options)
        return {"n": 2.0, "cider": 1.25}

    for task in ("captioning:Captioner", "retrieval:Retriever", "reasoning:Reasoner"):
        monkeypatch.setattr(f"pipelines.{task.replace(':', '.')}.evaluate", evaluate)
    data = tmp_path / "rows.jsonl"
    data.write_text("{}", encoding="utf-8")
    flags = ["--data", str(data), "--lang", "zh", "--model", "m"]
    assert main(["evaluate", "captioning", *flags, "--method", "all", "--limit", "7", "--option", "gallery=seen"]) == 0
    assert main(["evaluate", "retrieval", *flags, "--method", "fusion"]) == 0
    assert main(["evaluate", "reasoning", *flags]) == 0
    assert told == [
        {"model": "m", "method": "all", "language": "zh", "limit": 7, "gallery": "seen"},
        {"model": "m", "method": "fusion", "language": "zh"},
        {"model": "m"},
    ]
    assert capsys.readouterr().out.splitlines()[:2] == [f"{'n':20} 2", f"{'cider':20} 1.25"]


def test_models_marks_what_can_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["smollm2-135m"]["missing"] is None and rows["blip-base"]["missing"] == "offline_not_cached"
    assert main(["models"]) == 0
    assert "smollm2-135m" in capsys.readouterr().out


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_doctor_says_what_each_tab_will_run_and_why_not(lang: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "--lang", lang]) == 0
    report = json.loads(capsys.readouterr().out)
    chat, drawing = report["tabs"]["reasoning"], report["tabs"]["text_to_image"]
    assert chat["model"] == "smollm2-135m" and chat["here"] and not chat["missing"]
    assert not drawing["here"] and drawing["size_mb"] > 0
    assert report["device"] == "cpu" and report["packages"]["gradio"]
    assert main(["doctor", "--lang", lang]) == 0
    assert "smollm2-135m" in capsys.readouterr().out


def test_help_is_in_the_language_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--lang", "zh", "--help"])
    assert "与语言模型对话" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["chat"],
        ["reason"],
        ["emotion"],
        ["speak", "x"],
        ["caption", "x"],
        ["generate", "x"],
        ["search", "a dog", "x.png", "y.png"],
    ],
)
def test_a_command_takes_its_tasks_knobs(arguments: list[str]) -> None:
    parsed = build_parser(arguments).parse_args([*arguments, "--model", "m", "--json"])
    assert (parsed.command, parsed.model, parsed.json) == (arguments[0], "m", True)


def test_ctrl_c_stops_the_job(settings: Settings) -> None:
    command = [sys.executable, "app.py", "chat", "Tell a long story.", "--max-new-tokens", "1024", "--temperature", "2"]
    process = subprocess.Popen(
        command, cwd=settings.root, env=os.environ.copy(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - started < 15
    assert errors.decode().strip().endswith("[cancelled]")
    assert "Traceback" not in errors.decode()
