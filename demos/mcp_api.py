"""The Model Context Protocol over House: each task as a tool. Needs requirements-mcp.txt; imported only when asked for.

Not Gradio's own: that calls itself back over HTTP, where every caller is this machine and has shown no PIN, and goes on
computing for a caller who left.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import gradio as gr
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import (
    AudioContent,
    CallToolRequestParams,
    CallToolResult,
    ContentBlock,
    ImageContent,
    ListToolsResult,
    TextContent,
    Tool,
    ToolAnnotations,
)
from starlette.concurrency import run_in_threadpool

from demos.bridge import Bridge
from demos.catalogue import catalogue, resident
from demos.edge import told_to_programs
from demos.layer import Receive, Scope, Send
from demos.middleware import MAX_BODY
from demos.plain import plain
from demos.replies import reply
from demos.rest import ENDPOINTS
from demos.text import messages, say
from demos.visitor import language_of, visitor_of
from pipelines.core.errors import Cancelled, InvalidInput
from pipelines.core.params import MEDIA, Knob, json_schema, knobs
from pipelines.core.streaming import Done, Progress
from pipelines.house import pipeline_class

MANIFEST = ("caption", "generate", "search", "speak", "emotion", "chat", "models")  # and nothing else
_TASKS = {name: task for task, name in ENDPOINTS.items()}
_HARMLESS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_ITEMS: dict[str, dict[str, Any]] = {
    "images": {"type": "string"},
    "messages": {
        "type": "object",
        "properties": {"role": {"enum": ["system", "user", "assistant"]}, "content": {"type": "string"}},
        "required": ["role", "content"],
    },
    "adapters": {
        "type": "object",
        "properties": {"id": {"type": "string"}, "weight": {"type": "number", "minimum": -2, "maximum": 2}},
        "required": ["id"],
    },
}


class Door:
    """The ASGI app of the route. Every request stands for itself: no sessions are kept, nothing is sent unasked.

    Hosts and origins are judged by the middleware, before this. Raises RuntimeError if the tools are not MANIFEST's.
    """

    def __init__(self, bridge: Bridge) -> None:
        listed = tuple(tool.name for tool in tools("en"))
        if listed != MANIFEST:
            raise RuntimeError(f"MCP would show {listed}, but what was decided on is {MANIFEST}")
        desk = Desk(bridge)
        self._manager = StreamableHTTPSessionManager(
            Server("synesthesia", title="Synesthesia", on_list_tools=desk.list, on_call_tool=desk.call),
            stateless=True,
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            max_request_body_size=MAX_BODY,
        )

    def lifespan(self, app: Any) -> AbstractAsyncContextManager[None]:
        """While it is open, calls are answered."""
        return self._manager.run()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            return await reply(send, 405, b"", "text/plain", ((b"allow", b"POST"),))
        await self._manager.handle_request(scope, receive, send)


def tools(lang: str) -> list[Tool]:
    """What there is to call, described in a language."""
    made = [_tool(name, lang, _schema(task, lang)) for name, task in _TASKS.items()]
    return [*made, _tool("models", lang, {"type": "object", "properties": {}, "additionalProperties": False})]


def _tool(name: str, lang: str, schema: dict[str, Any]) -> Tool:
    return Tool(name=name, description=say(f"mcp_{name}", lang), input_schema=schema, annotations=_HARMLESS)


def _schema(task: str, lang: str) -> dict[str, Any]:
    cls = pipeline_class(task).Params
    schema = json_schema(cls)
    for knob in knobs(cls):
        described = schema["properties"][knob.name]
        described["description"] = _described(task, knob, lang)
        if knob.kind in _ITEMS:
            described["items"] = _ITEMS[knob.kind]
        if described.get("default", "") is None:
            del described["default"]
    return schema


def _described(task: str, knob: Knob, lang: str) -> str:
    known = messages()
    key = next(key for key in (f"{task}_{knob.name}", f"knob_{knob.name}", f"mcp_{knob.name}") if key in known)
    hints = [f"{key}_info"] if f"{key}_info" in known else []
    return " – ".join(say(word, lang) for word in (key, *hints, *(["mcp_file"] if knob.kind in MEDIA else [])))


class Desk:
    """Answers the two questions of the protocol: which tools there are, and what one of them makes of this."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge

    async def list(self, context: Any, params: Any) -> ListToolsResult:
        return ListToolsResult(tools=tools(language_of(context.request)))

    async def call(self, context: Any, params: CallToolRequestParams) -> CallToolResult:
        """The result as JSON, its pictures and sounds after it; what a person may be told of an error as an error."""
        try:
            with told_to_programs(language_of(context.request)):
                return await self._result(context, params.name, params.arguments or {})
        except gr.Error as error:
            return CallToolResult(content=[TextContent(text=error.message)], is_error=True)

    async def _result(self, context: Any, name: str, arguments: Mapping[str, Any]) -> CallToolResult:
        if name not in MANIFEST:
            raise InvalidInput("unsupported_value", name="tool", known=", ".join(MANIFEST))
        if name == "models":
            house = self.bridge.house
            return _answer({"models": await run_in_threadpool(catalogue, house), "resident": resident(house)})
        task = _TASKS[name]
        kinds = {knob.name: knob.kind for knob in knobs(pipeline_class(task).Params)}
        raw = {key: _taken(key, kinds.get(key, ""), value) for key, value in arguments.items()}
        stream = await self.bridge.stream(task, raw, visitor_of(context.request))
        told = _Told(context)
        async with aclosing(self.bridge.events(stream)) as events:
            async for event in events:
                if isinstance(event, Done):
                    return _answer(event.result)
                if isinstance(event, Progress):
                    await told.tell(event)
        raise Cancelled("cancelled")


class _Told:
    """What a caller who asked for progress has been told: each stage once, for the number may only grow."""

    def __init__(self, context: Any) -> None:
        self._session = context.session
        self._lang = language_of(context.request)
        self._stages: list[str] = []

    async def tell(self, progress: Progress) -> None:
        if progress.stage not in self._stages:
            self._stages.append(progress.stage)
            message = say(f"stage_{progress.stage}", self._lang)
            await self._session.report_progress(len(self._stages), None, message)


def _answer(result: Any) -> CallToolResult:
    media: list[ContentBlock] = []

    def save(data: bytes, kind: str) -> Any:
        """Where among the contents the file is; arrays are left out, for a language model has no use of them."""
        encoded = base64.b64encode(data).decode()
        if kind == "png":
            media.append(ImageContent(data=encoded, mime_type="image/png"))
        elif kind == "wav":
            media.append(AudioContent(data=encoded, mime_type="audio/wav"))
        else:
            return None
        return {"content": len(media)}

    text = json.dumps(plain(result, save), ensure_ascii=False)
    return CallToolResult(content=[TextContent(text=text), *media])


def _taken(name: str, kind: str, value: Any) -> Any:
    """Files as bytes, from base64 or a data: URL; nothing is fetched and no path is read."""
    if kind not in MEDIA:
        return value
    if not value:
        return None
    return [_file(name, item) for item in value] if isinstance(value, list) else _file(name, value)


def _file(name: str, value: Any) -> bytes:
    try:
        head, _, tail = value.partition(",") if value.startswith("data:") else ("", "", value)
        return base64.b64decode(tail, validate=True)
    except (AttributeError, ValueError):
        raise InvalidInput("not_base64", name=name) from None
