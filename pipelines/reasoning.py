"""Chat with a language model: directly or by a chain of thought, streamed, with each token's probabilities on demand.

Knows the model's tokenizer and logits, not where they come from; the tree of thoughts and the page are elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pipelines import chat_text
from pipelines.core.errors import InvalidInput
from pipelines.core.params import adapters_knob, knob, model_knob, seed_knob
from pipelines.core.registry import Registry
from pipelines.core.specs import AdapterUse, Made
from pipelines.core.streaming import Job, Progress
from pipelines.core.tasks import seed_or_fresh
from pipelines.metrics import read_rows

ALTERNATIVES = 5  # likeliest tokens shown beside each choice
STRATEGIES = ("direct", "chain_of_thought")
_VOICES = {"direct": chat_text.Plain, "chain_of_thought": chat_text.Steps}


@dataclass(frozen=True, slots=True)
class Params:
    messages: tuple[dict[str, str], ...] = knob(kind="messages", lines=3)
    system: str = knob("", lines=2)
    strategy: str = knob("direct", choices=STRATEGIES)
    temperature: float = knob(0.2, low=0.0, high=2.0, step=0.05)  # as SmolLM2's card recommends: small models ramble
    top_p: float = knob(0.95, low=0.0, high=1.0, step=0.01, advanced=True)
    max_new_tokens: int = knob(256, low=1, high=1024, step=1)
    alternatives: bool = knob(False, advanced=True)
    seed: int = seed_knob()
    model: str = model_knob()
    adapters: tuple[AdapterUse, ...] = adapters_knob()


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """One generated token, its log-probability (natural) and the likeliest (text, probability) in its place."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Result:
    """`thoughts` are the steps of a chain of thought; `tokens` is filled when alternatives were asked for."""

    text: str
    thoughts: tuple[str, ...]
    tokens: tuple[TokenInfo, ...]
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str  # stop | length | cancelled
    tokens_per_second: float
    seconds_to_first: float
    stopped: bool
    made: Made


class Reasoner:
    """Answers the last message of a conversation."""

    task: ClassVar[str] = "reasoning"
    Params: ClassVar[type] = Params
    Result: ClassVar[type] = Result

    def __init__(self, registry: Registry, *, lease_seconds: float) -> None:
        self.registry = registry
        self.lease_seconds = lease_seconds

    def run(self, params: Params, job: Job) -> Result:
        """Emits TextDelta (and Thought, for a chain of thought); a stop ends it with what there is so far."""
        spec = self.registry.catalog.for_task(self.task, params.model)
        messages = chat_text.with_system(params.messages, params.system)
        if params.strategy == "chain_of_thought":
            messages = chat_text.asking_for_steps(messages)
        with self.registry.lease(
            spec.id, params.adapters, self.lease_seconds, stop=job.stop, progress=job.emit
        ) as lease:
            job.emit(Progress("run"))
            return _Turn(lease, params, job).run(messages)

    def embed(self, texts: Sequence[str], job: Job, model: str = "") -> list[list[float]]:
        """One vector of length 1 per text: the mean of the language model's last hidden states.

        Weak beside a model trained for it (it mostly follows shared words), but it is there without a download.
        """
        from pipelines import decoding

        spec = self.registry.catalog.for_task(self.task, model)
        with self.registry.lease(spec.id, (), self.lease_seconds, stop=job.stop, progress=job.emit) as lease:
            net, tokenizer = lease.model.model, lease.model.processor
            vectors = []
            for text in texts:
                job.check()
                ids = chat_text.encode_plain(tokenizer, text)
                if not ids:
                    raise InvalidInput("empty", name="input")
                _check_length(len(ids), decoding.context_length(net))
                vectors.append(decoding.embed(net, ids))
            return vectors

    def evaluate(self, path: Path, job: Job, **options: Any) -> dict[str, float]:
        """Accuracy over JSONL rows {"question", "answer"}: the number after "####" (or the last one) must be equal.

        Options are Params fields (strategy, model, adapters, max_new_tokens, …); decoding is greedy unless told.
        """
        rows = _read_questions(path)
        settings = {"temperature": 0.0, "seed": 0, **options}
        right = 0
        started = time.perf_counter()
        for done, row in enumerate(rows):
            job.check()
            job.emit(Progress("evaluate", done, len(rows)))
            params = Params(messages=({"role": "user", "content": row["question"]},), **settings)
            result = self.run(params, Job(job.stop))
            right += chat_text.final_answer(result.text) == chat_text.final_answer(row["answer"])
        seconds = time.perf_counter() - started
        return {"n": len(rows), "accuracy": right / len(rows), "seconds_per_item": seconds / len(rows)}


class _Turn:
    """One answer being written."""

    def __init__(self, lease: Any, params: Params, job: Job) -> None:
        self.lease = lease
        self.params = params
        self.job = job
        self.model = lease.model.model
        self.tokenizer = lease.model.processor
        self.seed = seed_or_fresh(params.seed)
        self.voice = _VOICES[params.strategy](job.emit)
        self.paced = chat_text.Paced(self.voice.add)
        self.pieces = chat_text.Pieces(self.tokenizer)
        self.tokens: list[TokenInfo] = []
        self.count = 0
        self.first = 0.0

    def run(self, messages: list[dict[str, str]]) -> Result:
        from pipelines import decoding

        self.started = time.perf_counter()
        prompt = chat_text.encode_chat(self.tokenizer, messages)
        context = decoding.context_length(self.model)
        _check_length(len(prompt), context - 1)
        params = self.params
        sampling = decoding.Sampling(
            params.temperature, params.top_p, self.seed, ALTERNATIVES if params.alternatives else 0
        )
        reason = decoding.decode(
            self.model,
            prompt,
            sampling,
            limit=min(params.max_new_tokens, context - len(prompt)),
            ends=decoding.end_tokens(self.model, self.tokenizer),
            stop=self.job.stop,
            on_token=self._on_token,
        )
        return self._result(len(prompt), reason)

    def _on_token(self, choice: Any) -> None:
        if not self.count:
            self.first = time.perf_counter() - self.started
        self.count += 1
        if text := self.pieces.add(choice.id):
            self.paced.add(text)
        if choice.logprob is not None:
            top = tuple((self._spell(id), probability) for id, probability in choice.top)
            self.tokens.append(TokenInfo(self._spell(choice.id), choice.logprob, top))

    def _spell(self, id: int) -> str:
        """A token as text; part of a character as the tokenizer's own name for those bytes."""
        text = self.tokenizer.decode([id], clean_up_tokenization_spaces=False)
        return self.tokenizer.convert_ids_to_tokens(id) if "\ufffd" in text else text

    def _result(self, prompt_tokens: int, reason: str) -> Result:
        self.paced.add(self.pieces.rest())
        self.paced.flush()
        text, thoughts = self.voice.end()
        seconds = time.perf_counter() - self.started
        writing = seconds - self.first  # the prompt is read before the first token
        return Result(
            text=text,
            thoughts=thoughts,
            tokens=tuple(self.tokens),
            prompt_tokens=prompt_tokens,
            completion_tokens=self.count,
            finish_reason=reason,
            tokens_per_second=(self.count - 1) / writing if self.count > 1 else 0.0,
            seconds_to_first=self.first,
            stopped=reason == "cancelled",
            made=self.lease.made(seed=self.seed, seconds=seconds),
        )


def _check_length(tokens: int, limit: int) -> None:
    if tokens > limit:
        raise InvalidInput("prompt_too_long", tokens=tokens, limit=limit)


def _read_questions(path: Path) -> list[dict[str, str]]:
    rows = read_rows(path)
    for at, row in enumerate(rows, 1):
        if not (row.get("question", "").strip() and "answer" in row):
            raise InvalidInput("bad_row", line=at, need="question, answer")
    return rows
