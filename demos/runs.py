"""The frame of a run, the same on every tab: primary button, stop, status, result line, and how to ask for the same
from a shell, over HTTP and in Python."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from demos import cards
from demos.cli import COMMANDS
from demos.edge import Updates, View
from demos.rest import ENDPOINTS
from demos.text import label, say
from demos.widgets import PRIVATE, QUICK, SECONDS_KEPT, Form
from pipelines.core.params import Knob, knobs
from pipelines.core.streaming import Progress
from pipelines.house import pipeline_class

Asked = Callable[..., dict[str, Any]]
ViewOf = Callable[[dict[str, Any], str], View]


class Run:
    """Buttons and lines of one task's runs; a Frame for the edge."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.house = form.house
        self.task = form.task

    def buttons(self, text: str = "") -> None:
        """The primary button and Stop."""
        with gr.Row(elem_classes="buttons"):
            self.go = gr.Button(label(text or f"{self.task}_run"), variant="primary", elem_id=f"{self.task}-run")
            self.halt = gr.Button(label("stop"), variant="stop", interactive=False, elem_id=f"{self.task}-stop")

    def lines(self) -> None:
        """The status line."""
        self.status = gr.HTML(elem_id=f"{self.task}-status", elem_classes="status-line")

    def made(self) -> None:
        """The result line, and a button that keeps the seed it shows."""
        self.result = gr.HTML(elem_id=f"{self.task}-made")
        self.seed = gr.State(None, time_to_live=SECONDS_KEPT)
        self.keep = gr.Button(label("keep_seed"), size="sm", visible=False, elem_id=f"{self.task}-keep")

    def copies(self) -> None:
        """The same request by the other ways in."""
        with gr.Accordion(label("copy_as"), open=False, elem_id=f"{self.task}-copy") as self.shapes:
            with gr.Tabs():
                self.codes = [self._code(name, language) for name, language in SHAPES]
            gr.Markdown(label("copy_as_help"))

    def _code(self, name: str, language: str) -> gr.Code:
        with gr.Tab(name):
            return gr.Code(language=language, interactive=False, show_label=False, lines=3, wrap_lines=True)

    def on(self, triggers: Sequence[Any], view: ViewOf, outputs: Sequence[Any], **more: Any) -> Any:
        """Run the task on these triggers; `view(raw, lang)` shows it in `outputs`."""
        return self.listen(partial(gr.on, triggers), view, outputs, **more)

    def listen(
        self,
        listener: Callable[..., Any],
        view: ViewOf,
        outputs: Sequence[Any],
        *,
        inputs: Sequence[Any] | None = None,
        raw: Asked | None = None,
        name: str = "run",
    ) -> Any:
        """The same for any listener, such as the success of another event."""
        return listener(
            self.form.edge.handler(self.task, raw or self.form.raw, view, self),
            list(inputs or self.form.inputs),
            [*outputs, self.status, self.go, self.halt, self.result, self.seed, self.keep, self.form.notice],
            api_name=f"{self.task}_{name}",
            concurrency_id=self.task,
            concurrency_limit=None,  # the house decides who computes
            trigger_mode="once",
            **PRIVATE,
        )

    def wire(self, inputs: Sequence[Any] | None = None, raw: Asked | None = None) -> None:
        """Stop, and the request in other words whenever it is looked at or has changed."""
        self.halt.click(self.form.edge.stopper(self.task), None, None, api_name=f"{self.task}_stop", **QUICK)
        if seed := self.form.component("seed"):
            self.keep.click(lambda kept: kept, [self.seed], [seed], api_name=f"{self.task}_seed", **QUICK)
        asked = list(inputs or self.form.inputs)
        ask = raw or self.form.raw

        def write(request: gr.Request, *values: Any) -> list[str]:
            return requests_for(self.task, ask(*values), str(request.request.base_url).rstrip("/"))

        chats = [part for part in asked if isinstance(part, gr.Chatbot)]  # change with every word of an answer
        changes = [_settled(part) for part in asked if part not in chats]
        gr.on(
            [self.shapes.expand, *changes],
            write,
            asked,
            self.codes,
            trigger_mode="always_last",
            api_name=f"{self.task}_copy",
            **QUICK,
        )

    # -- Frame --------------------------------------------------------------------------------------

    def busy(self, lang: str) -> Updates:
        return {
            self.status: cards.status(Progress("start"), lang),
            self.go: gr.update(interactive=False),
            self.halt: gr.update(interactive=True),
        }

    def told(self, progress: Progress, lang: str) -> Updates:
        return {self.status: cards.status(progress, lang)}

    def ended(self, result: Any, lang: str, seconds: float) -> Updates:
        stopped = getattr(result, "stopped", False)
        return {
            self.status: cards.said(say("stopped_partly" if stopped else "done", lang)),
            self.result: cards.made_line(self.house, result.made, lang, seconds),
            self.seed: result.made.seed,
            self.keep: gr.update(visible=result.made.seed is not None),
            self.form.notice: cards.notice(self.house, self.house.catalog.model(result.made.model), lang),
            **self._at_rest(),
        }

    def failed(self, message: str, *, wrong: bool) -> Updates:
        return {self.status: cards.said(message, "error" if wrong else ""), **self._at_rest()}

    def _at_rest(self) -> Updates:
        return {self.go: gr.update(interactive=True), self.halt: gr.update(interactive=False)}


def _settled(part: Any) -> Any:
    """The event after which a component's value is settled; a number's blur may come before its value does."""
    if isinstance(part, gr.Number):
        return part.change
    return getattr(part, "blur", None) or getattr(part, "release", None) or part.change


# -- the same request by the other ways in ----------------------------------------------------------

SHAPES = (("CLI", "shell"), ("curl", "shell"), ("Python", "python"))
MEDIA_NAMES = {"image": "picture.jpg", "audio": "sound.wav"}


def requests_for(task: str, raw: dict[str, Any], url: str) -> list[str]:
    """The request as a command, with curl and in Python; only what differs from the defaults."""
    declared = {knob.name: knob for knob in knobs(pipeline_class(task).Params)}
    said = {name: _plain(value) for name, value in raw.items() if _differs(declared[name], value)}
    return [_command(task, said, declared), _curl(task, said, declared, url), _python(task, said, declared, url)]


def _differs(knob: Knob, value: Any) -> bool:
    if knob.kind == "model":
        return bool(value)
    return knob.required or (list(value) if isinstance(value, tuple) else value) != (
        list(knob.default) if isinstance(knob.default, tuple) else knob.default
    )


def _plain(value: Any) -> Any:
    """Files by name: where they lie on the server is nobody's business."""
    if isinstance(value, Path):
        return value.name
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _command(task: str, said: dict[str, Any], declared: dict[str, Knob]) -> str:
    name, command = next((name, command) for name, command in COMMANDS.items() if command.task == task)
    first, flags = [], []
    for key, value in said.items():
        if key in command.positional:
            first += value if isinstance(value, list) else [value]
        else:
            flags += _flags(declared[key], value)
    return shlex.join(["python", "app.py", name, *map(str, first), *flags])


def _flags(knob: Knob, value: Any) -> list[str]:
    flag = "--" + knob.name.replace("_", "-")
    if knob.kind == "switch":
        return [flag if value else "--no-" + flag[2:]]
    if knob.kind == "adapters":
        return [part for use in value for part in ("--adapter", f"{use['id']}:{use['weight']:g}")]
    if knob.kind == "messages":
        return [flag, json.dumps(value, ensure_ascii=False)]
    values = value if isinstance(value, list) else [value]
    return [part for one in values for part in (flag, str(one))]


def _curl(task: str, said: dict[str, Any], declared: dict[str, Knob], url: str) -> str:
    name = ENDPOINTS[task]
    uploads, body = [], {}
    for key, value in said.items():
        kind = declared[key].kind
        if kind in ("image", "audio", "images"):
            files = value if isinstance(value, list) else [value]
            uploads += [f"curl -s {url}/gradio_api/upload -F {shlex.quote(f'files=@{file}')}" for file in files]
            one = [_file(f"PATH_OF_{number}") for number in range(1, len(files) + 1)]
            body[key] = one if kind == "images" else one[0]
        else:
            body[key] = value
    data = json.dumps(body, ensure_ascii=False)
    call = (
        f"curl -s {url}/gradio_api/call/v2/{name} -H 'Content-Type: application/json' -d {shlex.quote(data)}"
        " | python3 -c 'import json, sys; print(json.load(sys.stdin)[\"event_id\"])'"
        f" | xargs -I ID curl -sN {url}/gradio_api/call/{name}/ID"
    )
    return "\n".join([*uploads, call])


def _file(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def _python(task: str, said: dict[str, Any], declared: dict[str, Knob], url: str) -> str:
    lines = [f"    {key}={_argument(declared[key], value)}," for key, value in said.items()]
    return "\n".join(
        [
            "from gradio_client import Client, handle_file",
            "",
            f'client = Client("{url}")',
            "result = client.predict(",
            *lines,
            f'    api_name="/{ENDPOINTS[task]}",',
            ")",
        ]
    )


def _argument(knob: Knob, value: Any) -> str:
    if knob.kind == "images":
        return "[" + ", ".join(f"handle_file({file!r})" for file in value) + "]"
    return f"handle_file({value!r})" if knob.kind in ("image", "audio") else repr(value)
