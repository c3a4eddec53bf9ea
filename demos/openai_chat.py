"""Chat completions: OpenAI's request as a conversation, a job's events as OpenAI's chunks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from demos.openai_request import refuse_unless, with_model
from pipelines.core.errors import InvalidInput
from pipelines.core.streaming import Done, Event, Stop, TextDelta

MAX_STOPS = 4
_REASONS = {"stop": "stop", "length": "length", "cancelled": "length"}  # cut short by a stop or by shutdown
_ABSENT = ("tools", "functions", "audio", "logit_bias", "prediction", "top_logprobs")
_KNOBS = ("temperature", "top_p", "seed", "strategy")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What House is asked, and how the answer is to be sent."""

    raw: dict[str, Any]
    stops: tuple[str, ...]
    stream: bool
    usage: bool


def chat_request(body: dict[str, Any]) -> ChatRequest:
    """Read a request body; raises InvalidInput for what is not there to have."""
    for name in _ABSENT:
        refuse_unless(not body.get(name), name)
    refuse_unless(body.get("n") in (None, 1), "n", "1")
    refuse_unless((body.get("response_format") or {"type": "text"}) == {"type": "text"}, "response_format", "text")
    refuse_unless(not body.get("logprobs"), "logprobs")
    messages = body.get("messages")
    if not isinstance(messages, list):
        raise InvalidInput("wrong_type", name="messages", wanted="list")
    raw = {"messages": [_message(item) for item in messages], **with_model(body)}
    raw |= {name: body[name] for name in _KNOBS if body.get(name) is not None}
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if limit is not None:
        raw["max_new_tokens"] = limit
    options = body.get("stream_options") or {}
    usage = isinstance(options, dict) and bool(options.get("include_usage"))
    return ChatRequest(raw, _stops(body.get("stop")), bool(body.get("stream")), usage)


def _message(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise InvalidInput("wrong_type", name="messages", wanted="list")
    content = item.get("content")
    if isinstance(content, list):
        content = "".join(_part(part) for part in content)
    role = "system" if item.get("role") == "developer" else item.get("role")
    return {"role": role, "content": content}  # params.build judges them


def _part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    refuse_unless(kind == "text" and isinstance(part.get("text"), str), "messages", "text")
    return str(part["text"])


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or not all(isinstance(stop, str) and stop for stop in stops):
        raise InvalidInput("wrong_type", name="stop", wanted="text")
    refuse_unless(len(stops) <= MAX_STOPS, "stop", f"1–{MAX_STOPS}")
    return tuple(stops)


class Answer:
    """One answer while it grows; cut before the first of `stops`."""

    def __init__(self, id: str, model: str, stops: tuple[str, ...]) -> None:
        self.id = id
        self.model = model
        self.created = int(time.time())
        self.text = ""
        self.finish = "length"
        self.result: Any = None
        self._stops = stops
        self._held = ""  # may be the beginning of a stop
        self.cut = False

    def add(self, text: str) -> str:
        """What of it may be shown now."""
        if self.cut:
            return ""
        self._held += text
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        self.cut = bool(found)
        keep = min(found) if found else len(self._held) - self._tail()
        shown, self._held = self._held[:keep], self._held[keep:]
        self.text += shown
        return shown

    def _tail(self) -> int:
        """Length of the longest end of the text that begins a stop."""
        lengths = range(1, len(self._held) + 1)
        return max((n for n in lengths if any(stop.startswith(self._held[-n:]) for stop in self._stops)), default=0)

    def end(self, result: Any) -> str:
        """Take the job's result; what was held back and turned out to be text."""
        self.result = result
        self.finish = "stop" if self.cut else _REASONS.get(result.finish_reason, "stop")
        rest = "" if self.cut else self._held
        self._held = ""
        self.text += rest
        return rest

    def whole(self) -> dict[str, Any]:
        """A chat.completion object."""
        message = {"role": "assistant", "content": self.text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish}
        return {**_frame(self, "chat.completion"), "choices": [choice], "usage": usage_of(self.result)}


async def chunks(events: AsyncIterator[Event | None], answer: Answer, stop: Stop) -> AsyncIterator[str]:
    """Pieces of text as they come; at a stop string the job is stopped and the rest dropped."""
    async for event in events:
        text = ""
        if isinstance(event, TextDelta):
            text = answer.add(event.text)
            if answer.cut:
                stop.set()
        elif isinstance(event, Done):
            text = answer.end(event.result)
        if text:
            yield text


def chunk(answer: Answer, delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
    """A chat.completion.chunk object."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return {**_frame(answer, "chat.completion.chunk"), "choices": [choice]}


def usage_of(result: Any) -> dict[str, int]:
    if result is None:
        return {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    prompt, completion = result.prompt_tokens, result.completion_tokens
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _frame(answer: Answer, kind: str) -> dict[str, Any]:
    return {"id": answer.id, "object": kind, "created": answer.created, "model": answer.model}
