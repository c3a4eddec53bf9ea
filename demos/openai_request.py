"""What an OpenAI client may send beyond a pipeline's own knobs, read strictly. Raises InvalidInput."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request

from pipelines.core.errors import InvalidInput
from pipelines.core.params import MAX_TEXT

MAX_INPUTS = 64  # texts in one request for embeddings


async def read_body(request: Request) -> dict[str, Any]:
    """The request's JSON object; raises InvalidInput."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise InvalidInput("not_json") from None
    if not isinstance(body, dict):
        raise InvalidInput("not_json")
    return body


def refuse_unless(ok: bool, name: str, known: str = "–") -> None:
    if not ok:
        raise InvalidInput("unsupported_value", name=name, known=known)


def plain_model(body: dict[str, Any]) -> str:
    """The model's id, "" for the default; raises InvalidInput."""
    model = body.get("model") or ""
    if not isinstance(model, str):
        raise InvalidInput("wrong_type", name="model", wanted="text")
    return "" if model == "default" else model


def with_model(body: dict[str, Any]) -> dict[str, Any]:
    """`model` and `adapters` of "id+adapter:0.8+another"."""
    model, *adapters = plain_model(body).split("+")
    return {"model": "" if model == "default" else model} | ({"adapters": adapters} if adapters else {})


def texts_of(value: Any) -> list[str]:
    """One text or several, none empty."""
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidInput("wrong_type", name="input", wanted="text")
    if not texts or not all(text.strip() for text in texts):
        raise InvalidInput("empty", name="input")
    if len(texts) > MAX_INPUTS:
        raise InvalidInput("too_many_inputs", count=len(texts), limit=MAX_INPUTS)
    if (longest := max(map(len, texts))) > MAX_TEXT:
        raise InvalidInput("too_long", name="input", length=longest, limit=MAX_TEXT)
    return texts


def size_of(value: Any) -> tuple[int, int]:
    """(width, height) of "512x512"; zeros, the model's own, for "auto"."""
    if value in (None, "auto"):
        return 0, 0
    width, _, height = str(value).partition("x")
    if not (width.isdigit() and height.isdigit() and len(width) + len(height) <= 10):
        raise InvalidInput("wrong_type", name="size", wanted="512x512")
    return int(width), int(height)
