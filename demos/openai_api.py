"""OpenAI's routes over House, so that its official client can be pointed here. Knows HTTP, no model.

What this house cannot do (tools, several answers, links to pictures) is refused by name, never ignored.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from demos.bridge import Bridge
from demos.openai_chat import Answer, chat_request, chunk, chunks, usage_of
from demos.openai_errors import answering, error_of
from demos.openai_request import plain_model, read_body, refuse_unless, size_of, texts_of, with_model
from demos.visitor import language_of, visitor_of
from pipelines import media
from pipelines.core.errors import DemoError
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Job
from pipelines.house import House

DEFAULT_VOICES = ("", "default", "alloy")
EMBEDDERS = ("retrieval", "reasoning")


def routes(bridge: Bridge) -> APIRouter:
    """/v1/…, to be included in the app."""
    api = OpenAI(bridge)
    router = APIRouter(prefix="/v1")
    router.add_api_route("/models", api.models, methods=["GET"])
    router.add_api_route("/models/{id}", api.model, methods=["GET"])
    router.add_api_route("/chat/completions", api.chat, methods=["POST"])
    router.add_api_route("/embeddings", api.embeddings, methods=["POST"])
    router.add_api_route("/images/generations", api.images, methods=["POST"])
    router.add_api_route("/audio/speech", api.speech, methods=["POST"])
    return router


class OpenAI:
    """One method per route."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.house: House = bridge.house

    @answering
    async def models(self, request: Request) -> Response:
        cards = [self._card(spec) for spec in self.house.catalog.models() if not spec.part]
        return JSONResponse({"object": "list", "data": cards})

    @answering
    async def model(self, request: Request) -> Response:
        return JSONResponse(self._card(self.house.catalog.model(request.path_params["id"])))

    def _card(self, spec: ModelSpec) -> dict[str, Any]:
        missing = self.house.sources.missing(spec)
        own = {"task": spec.task, "license": spec.license, "available": missing is None}
        return {"id": spec.id, "object": "model", "created": 0, "owned_by": spec.source, **own}

    @answering
    async def chat(self, request: Request) -> Response:
        body = await read_body(request)
        wanted = chat_request(body)
        stream = await self.bridge.stream("reasoning", wanted.raw, visitor_of(request))
        answer = Answer(id=f"chatcmpl-{uuid.uuid4().hex}", model=body.get("model") or "default", stops=wanted.stops)
        events = chunks(self.bridge.events(stream, request.is_disconnected), answer, stream.stop)
        if wanted.stream:
            lines = self._lines(events, answer, wanted.usage, language_of(request))
            return StreamingResponse(lines, media_type="text/event-stream", headers={"cache-control": "no-store"})
        async for _ in events:
            pass
        return JSONResponse(answer.whole())

    async def _lines(self, events: AsyncIterator[str], answer: Answer, usage: bool, lang: str) -> AsyncIterator[str]:
        """Server-sent events; an error after the first byte is an error object, for the status is already out."""
        yield sse(chunk(answer, {"role": "assistant", "content": ""}))
        try:
            async for text in events:
                yield sse(chunk(answer, {"content": text}))
            yield sse(chunk(answer, {}, answer.finish))
            if usage:
                yield sse({**chunk(answer, {}), "choices": [], "usage": usage_of(answer.result)})
        except DemoError as error:
            yield sse(error_of(error, lang)[1])
        yield "data: [DONE]\n\n"

    @answering
    async def embeddings(self, request: Request) -> Response:
        body = await read_body(request)
        refuse_unless(body.get("dimensions") is None, "dimensions")
        texts = texts_of(body.get("input"))
        task, model = self._embedder(plain_model(body))
        stream = await self.bridge.start(task, lambda job: self._embed(task, texts, job, model), visitor_of(request))
        vectors = await self.bridge.result(stream, request.is_disconnected)
        packed = body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": i, "embedding": _packed(vector) if packed else vector}
            for i, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": 0, "total_tokens": 0}  # not counted: encoders differ in what a token is
        return JSONResponse({"object": "list", "model": model, "data": data, "usage": usage})

    def _embed(self, task: str, texts: list[str], job: Job, model: str) -> list[list[float]]:
        pipeline: Any = self.house.pipeline(task)
        vectors: list[list[float]] = pipeline.embed(texts, job, model)
        return vectors

    def _embedder(self, model: str) -> tuple[str, str]:
        """(task, model id) that makes vectors: the one asked for, else the best of those usable here."""
        if model:
            spec = self.house.catalog.model(model)
            task = next((task for task in EMBEDDERS if spec.serves(task)), "")
            refuse_unless(bool(task) and not spec.part, "model")
            return task, model
        for task in EMBEDDERS:
            model = self.house.default_model(task)
            if self.house.sources.missing(self.house.catalog.model(model)) is None:
                break
        return task, model

    @answering
    async def images(self, request: Request) -> Response:
        body = await read_body(request)
        refuse_unless(body.get("n") in (None, 1), "n")
        refuse_unless(body.get("response_format") in (None, "b64_json"), "response_format")
        refuse_unless(body.get("output_format") in (None, "png"), "output_format")
        width, height = size_of(body.get("size"))
        raw = {"prompt": body.get("prompt"), "width": width, "height": height, **with_model(body)}
        raw |= {name: body[name] for name in ("seed", "steps", "guidance", "negative_prompt") if name in body}
        stream = await self.bridge.stream("text_to_image", raw, visitor_of(request))
        result = await self.bridge.result(stream, request.is_disconnected)
        data = [{"b64_json": base64.b64encode(image).decode()} for image in result.images]
        return JSONResponse({"created": int(time.time()), "output_format": "png", "data": data})

    @answering
    async def speech(self, request: Request) -> Response:
        body = await read_body(request)
        format = body.get("response_format") or "mp3"
        refuse_unless(format in media.SOUND_TYPES, "response_format", ", ".join(media.SOUND_TYPES))
        refuse_unless(body.get("stream_format") in (None, "audio"), "stream_format")
        raw: dict[str, Any] = {"text": body.get("input"), **with_model(body)}
        raw |= {name: body[name] for name in ("speed", "seed", "pause") if name in body}
        if (voice := body.get("voice")) and voice not in DEFAULT_VOICES:
            raw["voice"] = voice
        stream = await self.bridge.stream("speech", raw, visitor_of(request))
        result = await self.bridge.result(stream, request.is_disconnected)
        data = await run_in_threadpool(media.encode_sound, result.wav, format)
        return Response(data, media_type=media.SOUND_TYPES[format])


def sse(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _packed(vector: list[float]) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()
