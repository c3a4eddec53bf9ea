"""Widgets follow the declarations, and what they hand on is what the house expects."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from demos import cards, edge
from demos.cli import build_parser
from demos.edge import Edge, Pages, plain_markdown
from demos.models import eviction_table, may_steer, since
from demos.reasoning import history, token_view
from demos.runs import requests_for
from demos.speech import spectrogram
from demos.widgets import Form
from pipelines.core.errors import InvalidInput
from pipelines.core.params import build, knobs
from pipelines.core.registry import Eviction
from pipelines.core.settings import Settings
from pipelines.core.streaming import Done, Progress, TextDelta
from pipelines.house import PIPELINES, House, pipeline_class
from pipelines.spectrogram import log_mel


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(replace(Settings.read({}), cache=tmp_path_factory.mktemp("cache"), offline=True))


def whole_form(house: House, task: str) -> Form:
    with gr.Blocks():
        form = Form(Edge(house), task)
        for knob in knobs(pipeline_class(task).Params):
            if knob.kind not in ("model", "adapters", "messages") and not knob.advanced:
                form.field(knob.name)
        form.models()
        form.rest(without=("messages",))
    return form


@pytest.mark.parametrize("task", PIPELINES)
def test_a_form_has_a_component_for_every_knob(house: House, task: str) -> None:
    form = whole_form(house, task)
    declared = {knob.name for knob in knobs(pipeline_class(task).Params) if knob.kind != "messages"}
    assert {field.name for field in form.fields} == declared


@pytest.mark.parametrize("task", PIPELINES)
def test_untouched_widgets_are_the_declared_defaults(house: House, task: str) -> None:
    form = whole_form(house, task)
    raw = form.raw(*(getattr(component, "value", None) for component in form.inputs))
    for knob in knobs(pipeline_class(task).Params):
        if not knob.required and knob.name in raw and knob.kind not in ("model", "adapters"):
            assert raw[knob.name] == knob.default, knob.name


def test_a_slider_has_the_declared_limits(house: House) -> None:
    slider = whole_form(house, "speech").component("speed")
    assert (slider.minimum, slider.maximum, slider.value, slider.step) == (0.5, 2.0, 1.0, 0.05)


def test_files_become_paths_and_adapters_uses(house: House) -> None:
    form = whole_form(house, "captioning")
    values = {field.name: [None] * len(field.components) for field in form.fields}
    values["image"] = ["/tmp/cat.jpg"]
    values["adapters"] = [["one", "two"], 0.5, -1.0, 1.0, 1.0]
    raw = form.raw(*(value for field in form.fields for value in values[field.name]))
    assert raw["image"] == Path("/tmp/cat.jpg")
    assert raw["adapters"] == [{"id": "one", "weight": 0.5}, {"id": "two", "weight": -1.0}]


def test_a_model_that_cannot_run_says_what_is_missing_in_both_languages(house: House) -> None:
    spec = house.catalog.model("blip-base")
    assert "offline" in cards.notice(house, spec, "en")
    assert "离线" in cards.notice(house, spec, "zh")
    assert "not here yet" in cards.choice(house, spec, "en")


def test_a_card_says_licence_source_and_note(house: House) -> None:
    card = cards.model_card(house, house.catalog.model("blip-base"), "zh")
    assert "BSD-3-Clause" in card and "Salesforce/blip-image-captioning-base" in card and "英文" in card


# -- copy as -----------------------------------------------------------------------------------------

HOSTILE = 'it\'s $(rm -rf /) `x` "q" \\ 你好\nsecond line'


@pytest.mark.parametrize(
    ("task", "raw"),
    [
        ("speech", {"text": HOSTILE, "speed": 1.5, "seed": 7}),
        ("reasoning", {"messages": [{"role": "user", "content": HOSTILE}], "temperature": 0.0, "alternatives": True}),
        ("text_to_image", {"prompt": HOSTILE, "adapters": [{"id": "lcm-lora-sd15", "weight": 0.5}]}),
    ],
)
def test_the_copied_command_asks_for_the_same(task: str, raw: dict[str, Any]) -> None:
    words = shlex.split(requests_for(task, raw, "http://127.0.0.1:7860")[0])
    assert words[:2] == ["python", "app.py"]
    args = build_parser(words[2:]).parse_args(words[2:])
    cls = pipeline_class(task).Params
    given = {k.name: getattr(args, k.name) for k in knobs(cls) if getattr(args, k.name, None) is not None}
    assert build(cls, given) == build(cls, raw)


def test_copied_python_is_python_and_curl_names_no_server_path() -> None:
    raw = {"image": Path("/srv/private/upload/cat.jpg"), "question": HOSTILE}
    command, curl, python = requests_for("captioning", raw, "http://127.0.0.1:7860")
    compile(python, "copied", "exec")
    assert "/srv" not in command + curl + python
    assert "/gradio_api/call/v2/caption" in curl


# -- text of models ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://evil.example/x.png)",
        "<img src=https://evil.example/x.png>",
        "<FORM action=//evil><input type=password></form>",
        "```\n<iframe src=x>\n```",
        "![x][1]\n\n[1]: https://evil.example/x.png",
    ],
)
def test_model_text_brings_no_picture_and_no_form(text: str) -> None:
    shown = plain_markdown(text)
    assert "![" not in shown
    assert not any(f"<{tag}" in shown.lower() for tag in ("img", "form", "input", "iframe"))
    assert shown.replace(edge.JOINER, "") == text


def test_ordinary_markdown_is_left_alone() -> None:
    text = "**bold** `code` $x < y$ [link](https://example.org) a<b"
    assert plain_markdown(text) == text


def test_history_leaves_thoughts_out_and_reads_blocks() -> None:
    chat = [
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {"role": "assistant", "content": "hm", "metadata": {"title": "Thinking"}},
        {"role": "assistant", "content": plain_markdown("<img> there"), "metadata": None},
    ]
    assert history(chat) == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "<img> there"}]


def test_what_a_model_says_is_escaped_in_html() -> None:
    token = SimpleNamespace(text="<script>", logprob=-0.5, top=(("<b>", 0.6),))
    assert "<script>" not in token_view([token], "en") and "<b>" not in token_view([token], "en")


# -- runs --------------------------------------------------------------------------------------------


class Shown:
    """A view and a frame that write down what they are told."""

    def start(self) -> dict[str, Any]:
        return {}

    def after(self, event: TextDelta) -> dict[str, Any]:
        return {"text": event.text}

    def done(self, result: Any) -> dict[str, Any]:
        return {"result": result}

    def told(self, progress: Progress, lang: str) -> dict[str, Any]:
        return {"status": progress.stage}

    def ended(self, result: Any, lang: str, seconds: float) -> dict[str, Any]:
        return {"status": "done"}


def test_updates_are_gathered_and_none_is_lost() -> None:
    pages = Pages(Shown(), "en")
    pages.begin(Shown())
    first = pages.after(Progress("load"))
    shown = [pages.after(TextDelta(str(number))) for number in range(500)]
    last = pages.after(Done("result"))
    assert first == {"status": "load"}
    assert sum(bool(updates) for updates in shown) < 20
    assert last == {"text": "499", "status": "done", "result": "result"}


def test_an_unexpected_error_tells_nothing_but_a_reference(caplog: pytest.LogCaptureFixture) -> None:
    words = edge.worded(ValueError("/etc/secret"), "en")
    assert "secret" not in words and "reference" in words
    assert "secret" in caplog.text


def test_an_error_is_escaped_in_the_toast() -> None:
    error = InvalidInput("not_a_choice", name="x", value="<img src=x onerror=alert(1)>", known="a")
    assert "<img" not in str(edge.toast(edge.worded(error, "en")).message)


# -- models ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("address", "allowed"), [("127.0.0.1", True), ("::1", True), ("192.168.1.7", False)])
def test_only_the_serving_machine_steers(address: str, allowed: bool) -> None:
    assert may_steer({"type": "http", "client": (address, 5), "headers": []}) is allowed


def test_every_reason_for_leaving_memory_is_said_in_words() -> None:
    for reason in ("room", "idle", "asked", "budget", "oversize"):
        gone = Eviction(0.0, "<b>", "model", 2**20, reason, "other")
        assert f"models_reason_{reason}" not in eviction_table([gone], "en")
        assert "<b>" not in eviction_table([gone], "zh").replace("<b>x</b>", "")
    assert since(5, "en") == "5 s ago"


def test_the_spectrogram_puts_a_tone_at_its_height() -> None:
    import numpy as np

    rate = 24_000
    tone = np.sin(2 * np.pi * 1_000 * np.arange(rate) / rate).astype(np.float32)
    picture = spectrogram(*log_mel(tone, rate), rate)
    column = np.asarray(picture.convert("L"))[14:-44, picture.width // 2]
    height = 1 - (int(column.argmax()) + 2) / (picture.height - 52)
    wanted = np.log10(1 + 1_000 / 700) / np.log10(1 + 12_000 / 700)
    assert abs(height - wanted) < 0.03


def test_an_empty_sound_still_gives_a_picture() -> None:
    import numpy as np

    assert spectrogram(*log_mel(np.zeros(0, np.float32), 24_000), 24_000).width > 0
