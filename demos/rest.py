"""Typed endpoints on Gradio's API, one per task, made from its Params: the same knobs, limits and results as the page.

A file comes in as Gradio's FileData from its upload route and must lie in its upload folder; nothing else is read.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Literal

import gradio as gr
from gradio.utils import get_upload_folder

from demos.bridge import Bridge
from demos.catalogue import catalogue, resident
from demos.edge import told_to_programs
from demos.plain import plain
from demos.uploads import uploaded
from demos.visitor import LANGUAGES, visitor_of
from pipelines.core.errors import InvalidInput
from pipelines.core.params import MEDIA, Knob, knobs
from pipelines.core.streaming import Done, Progress, TextDelta
from pipelines.house import House, pipeline_class

ENDPOINTS = {  # task -> its name on the API
    "captioning": "caption",
    "text_to_image": "generate",
    "retrieval": "search",
    "speech": "speak",
    "emotion": "emotion",
    "reasoning": "chat",
}
LANG = inspect.Parameter(
    "lang",
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    default="en",
    annotation=Literal[LANGUAGES],
)
REQUEST = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=gr.Request)
_TYPES: dict[str, Any] = {
    "text": str,
    "model": str,
    "switch": bool,
    "seed": int,
    "image": gr.FileData | None,
    "audio": gr.FileData | None,
    "images": list[gr.FileData],
    "messages": list[dict[str, str]],
    "adapters": list[dict[str, str | float]],
}
_EMPTY: dict[str, Any] = {"text": "", "images": [], "messages": [], "image": None, "audio": None}


def add_endpoints(house: House) -> None:
    """Declare /caption, /generate, /search, /speak, /emotion, /chat, /stop and /models; inside a Blocks context."""
    bridge = Bridge(house)
    for task, name in ENDPOINTS.items():
        gr.api(endpoint(bridge, task), api_name=name, concurrency_limit=None)
    gr.api(_stop(house), api_name="stop", concurrency_limit=None)
    gr.api(_models(house), api_name="models", concurrency_limit=None)


def endpoint(bridge: Bridge, task: str) -> Callable[..., AsyncIterator[dict[str, Any]]]:
    """An endpoint whose signature is the task's knobs. Yields {"progress"} and {"text"} so far, last the Result."""
    cls = pipeline_class(task).Params
    declared = knobs(cls)

    async def run(request: Any, *values: Any) -> AsyncIterator[dict[str, Any]]:
        *given, lang = values
        lang = lang if lang in LANGUAGES else "en"
        with told_to_programs(lang):
            raw = {knob.name: _taken(knob, value) for knob, value in zip(declared, given, strict=True)}
            stream = await bridge.stream(task, raw, visitor_of(request))
            shown = _Shown()
            async for event in bridge.events(stream):
                if (state := shown.after(event)) is not None:
                    yield state

    parameters = [_parameter(knob) for knob in declared]
    run.__name__ = run.__qualname__ = ENDPOINTS[task]
    run.__doc__ = inspect.getdoc(cls)
    return _signed(run, [*parameters, LANG])


class _Shown:
    """What an API client has been told of a job."""

    def __init__(self) -> None:
        self.text = ""
        self.progress = {"stage": "queue", "done": 0.0, "total": 0.0}

    def after(self, event: Any) -> dict[str, Any] | None:
        """What to tell it now: also on a silent second, for that is when Gradio notices a client that left."""
        if isinstance(event, Done):
            return plain(event.result, save)
        if isinstance(event, TextDelta):
            self.text += event.text
        elif isinstance(event, Progress):
            self.progress = {"stage": event.stage, "done": event.done, "total": event.total}
        elif event is not None:
            return None
        return {"text": self.text} if self.text else {"progress": self.progress}


def save(data: bytes, ending: str) -> dict[str, Any]:
    """A result's file, in a folder of its own under Gradio's, as a FileData object."""
    folder = Path(tempfile.mkdtemp(dir=get_upload_folder()))
    path = folder / f"result.{ending}"
    path.write_bytes(data)
    return gr.FileData(path=str(path), orig_name=path.name, size=len(data)).model_dump()


def _taken(knob: Knob, value: Any) -> Any:
    if value is None or knob.kind not in MEDIA:
        return value
    if knob.kind == "images":
        if not isinstance(value, list | tuple):
            raise InvalidInput("not_an_upload", name=knob.name)
        return [uploaded(item, knob.name) for item in value]
    return uploaded(value, knob.name)


def _parameter(knob: Knob) -> inspect.Parameter:
    default = _EMPTY.get(knob.kind) if knob.required else knob.default
    if isinstance(default, tuple):
        default = list(default)
    return inspect.Parameter(
        knob.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=_annotation(knob)
    )


def _annotation(knob: Knob) -> Any:
    if knob.choices:
        return Literal[knob.choices]
    return _TYPES.get(knob.kind) or (int if knob.type is int else float)


def _signed(function: Any, parameters: list[inspect.Parameter], returns: Any = dict[str, Any]) -> Any:
    """Gradio makes its schema from the signature and the hints, and fills in the request itself."""
    every = [REQUEST, *parameters]
    function.__signature__ = inspect.Signature(every, return_annotation=returns)
    function.__annotations__ = {p.name: p.annotation for p in every} | {"return": returns}
    return function


def _stop(house: House) -> Callable[..., dict[str, int]]:
    def stop(request: gr.Request, task: str) -> dict[str, int]:
        """Stop one's own jobs of a task (or of the endpoint of that name); all of them for an empty one."""
        wanted = next((key for key, name in ENDPOINTS.items() if task in (key, name)), None)
        return {"stopped": house.stop(visitor_of(request), wanted)}

    task = inspect.Parameter("task", inspect.Parameter.POSITIONAL_OR_KEYWORD, default="", annotation=str)
    return _signed(stop, [task], dict[str, int])


def _models(house: House) -> Callable[..., dict[str, Any]]:
    def models(request: gr.Request) -> dict[str, Any]:
        """The catalogue, what of it can be used here, and what is in memory (bytes)."""
        return {"models": catalogue(house), "resident": resident(house)}

    return _signed(models, [])
