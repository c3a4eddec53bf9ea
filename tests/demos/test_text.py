"""Every word is there in both languages, says the same things, and is used; every error has its words."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from demos.text import label, lang_of, messages, say
from pipelines.core import errors
from pipelines.core.params import knobs
from pipelines.house import PIPELINES, pipeline_class

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "demos").glob("*.py"), *(ROOT / "pipelines").rglob("*.py")])
ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}


def trees() -> Iterator[tuple[Path, ast.AST]]:
    for path in SOURCES:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def calls(names: set[str]) -> Iterator[tuple[str, str, ast.Call]]:
    """(where, first text argument, call) of every call of these names that begins with a plain text."""
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in names:
                first = next((a for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)), None)
                if first is not None:
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", first.value, node


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("key", sorted(messages()))
def test_a_message_is_in_both_languages_with_the_same_placeholders(key: str) -> None:
    message = messages()[key]
    assert set(message) == {"en", "zh"}
    assert message["en"].strip() and message["zh"].strip()
    assert placeholders(message["en"]) == placeholders(message["zh"])


def test_every_word_asked_for_exists() -> None:
    asked = [(where, key) for where, key, _ in calls({"say", "label", "both"})]
    assert len(asked) > 50
    assert [(where, key) for where, key in asked if key not in messages()] == []


def test_every_error_has_words_whose_placeholders_it_fills() -> None:
    wrong = []
    for where, code, call in calls({*ERRORS, "Refused", "refuse"}):
        if code not in messages():
            wrong.append(f"{where}: no words for {code}")
        elif None not in (given := {keyword.arg for keyword in call.keywords}):
            needed = placeholders(messages()[code]["en"])
            wrong += [f"{where}: {code} wants {sorted(needed - given)}"] if needed - given else []
    assert wrong == []


def test_every_stage_of_progress_has_words() -> None:
    stages = {stage for _, stage, _ in calls({"Progress"})}
    assert {"queue", "load", "run"} <= stages
    assert {stage for stage in stages if f"stage_{stage}" not in messages()} == set()


def test_every_knob_has_a_label() -> None:
    for task in PIPELINES:
        for knob in knobs(pipeline_class(task).Params):
            if knob.kind != "messages":
                assert {f"{task}_{knob.name}", f"knob_{knob.name}"} & set(messages()), (task, knob.name)


def used(key: str, texts: set[str], patterns: list[re.Pattern[str]]) -> bool:
    if key in texts or any(pattern.fullmatch(key) for pattern in patterns):
        return True
    return any(key == f"{task}_{knob.name}" for task in PIPELINES for knob in knobs(pipeline_class(task).Params))


def test_no_message_is_unused() -> None:
    texts, patterns = set(), []
    for _, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else None for p in node.values]
                if re.search("[a-z]{3}", "".join(p or "" for p in parts)) and "_" in "".join(p or "" for p in parts):
                    patterns.append(re.compile("".join(".+" if p is None else re.escape(p) for p in parts)))
    assert [key for key in messages() if not used(key, texts, patterns)] == []


def test_say_fills_in_and_survives_a_missing_placeholder() -> None:
    assert say("place", "en", place=2) == "place 2"
    assert say("place", "zh", place=2) == "第 2 位"
    assert say("place", "en") == "place –"
    assert say("nowhere", "en") == "nowhere"


def test_a_label_that_does_not_exist_is_an_error_at_start() -> None:
    with pytest.raises(KeyError):
        label("nowhere")


@pytest.mark.parametrize(
    ("headers", "lang"),
    [
        ({}, "en"),
        ({"accept-language": "zh-CN,zh;q=0.9"}, "zh"),
        ({"accept-language": "zh-CN", "cookie": "synesthesia-lang=en"}, "en"),
        ({"accept-language": "en", "cookie": "synesthesia-lang=en", "referer": "http://x/?lang=zh-CN"}, "zh"),
    ],
)
def test_the_language_is_the_pages_then_the_remembered_then_the_browsers(headers: dict[str, str], lang: str) -> None:
    scope = {"type": "http", "headers": [(k.encode(), v.encode()) for k, v in headers.items()]}
    assert lang_of(scope) == lang
