"""Every error that can be raised has its words in both languages, with the placeholders it is raised with."""

from __future__ import annotations

import ast
import copy
import pickle
import string
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.core.errors import DemoError, InvalidInput, ModelBusy

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = tomllib.loads((ROOT / "demos" / "locales" / "errors.toml").read_text(encoding="utf-8"))
TREES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
    for folder in ("pipelines", "demos")
    for path in sorted((ROOT / folder).rglob("*.py"))
}


def families() -> set[str]:
    """Names of DemoError and of all classes below it, wherever they are."""
    names = {"DemoError", "Refused"}  # the latter crosses from the process that decodes
    classes = [node for tree in TREES.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while True:
        found = {c.name for c in classes if names & {b.id for b in c.bases if isinstance(b, ast.Name)}}
        if found <= names:
            return names
        names |= found


def codes(argument: ast.expr) -> Iterator[str]:
    """The texts a first argument can be; `a if b else c` is two."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        yield argument.value
    elif isinstance(argument, ast.IfExp):
        yield from (*codes(argument.body), *codes(argument.orelse))


def raised() -> list[tuple[str, str, set[str] | None]]:
    """(where, code, names of its params or None if they are not written out) of every error made anywhere."""
    names, found = families(), []
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in names and node.args:
                spread = any(keyword.arg is None for keyword in node.keywords)
                given = None if spread else {str(k.arg) for k in node.keywords}
                found += [(f"{path}:{node.lineno}", code, given) for code in codes(node.args[0])]
            elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[1], ast.Dict):
                keys = node.elts[1].keys  # a violation: ("code", {"name": ...})
                if keys and all(isinstance(key, ast.Constant) for key in keys):
                    given = {str(key.value) for key in keys if isinstance(key, ast.Constant)}
                    found += [(f"{path}:{node.lineno}", code, given) for code in codes(node.elts[0])]
    return found


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


RAISED = raised()


def test_the_scan_finds_the_errors_there_are() -> None:
    found = {code for _, code, _ in RAISED}
    assert {"model_too_large", "cancelled", "too_long", "adapter_shape", "unknown_task"} <= found


@pytest.mark.parametrize("code", sorted({code for _, code, _ in RAISED}))
def test_every_code_has_words_in_both_languages(code: str) -> None:
    where = [place for place, raised, _ in RAISED if raised == code]
    assert code in MESSAGES, f"{where[0]} raises {code!r}, which errors.toml does not know"
    assert all(MESSAGES[code].get(language, "").strip() for language in ("en", "zh"))


@pytest.mark.parametrize("code", sorted(MESSAGES))
def test_both_languages_fill_in_the_same_things(code: str) -> None:
    assert set(MESSAGES[code]) == {"en", "zh"}
    assert placeholders(MESSAGES[code]["en"]) == placeholders(MESSAGES[code]["zh"])


def test_every_placeholder_is_given_where_the_error_is_raised() -> None:
    lacking = [
        f"{where}: {code} needs {missing}"
        for where, code, given in RAISED
        if given is not None and (missing := placeholders(MESSAGES.get(code, {}).get("en", "")) - given)
    ]
    assert not lacking


def test_no_message_is_left_over() -> None:
    texts = {n.value for tree in TREES.values() for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    joined = [
        (parts[0].value, parts[-1].value)
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for parts in [[p if isinstance(p, ast.Constant) else ast.Constant("") for p in node.values]]
    ]
    composed = [(head, tail) for head, tail in joined if len(head) > 4 or len(tail) > 4]
    unused = [
        code
        for code in MESSAGES
        if code not in texts and not any(code.startswith(head) and code.endswith(tail) for head, tail in composed)
    ]
    assert not unused


@pytest.mark.parametrize("again", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_an_error_survives_a_copy_and_a_process_boundary(again: object) -> None:
    error = InvalidInput("too_long", violations=(("too_long", {"name": "x"}), ("empty", {"name": "y"})), name="x")
    twin = again(error)  # type: ignore[operator]
    assert type(twin) is InvalidInput and twin is not error
    assert (twin.code, twin.params, twin.violations) == ("too_long", {"name": "x"}, error.violations)


def test_an_error_reads_well_in_a_log() -> None:
    assert str(ModelBusy("model_busy", id="a", seconds=3)) == "model_busy(id='a', seconds=3)"
    assert str(DemoError("cancelled")) == "cancelled()"
