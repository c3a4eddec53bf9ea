"""Text around a chat model: safe prompts, pieces that are whole characters, steps of thought, exact answers.

Knows tokenizers by their methods only and no model; imports no framework.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from pipelines.core.errors import InvalidInput, ModelLoadFailed
from pipelines.core.streaming import Event, TextDelta, Thought

Message = dict[str, str]

STEPS = {
    "en": "Think step by step and write one step per line. Then write the result on a last line that starts with "
    '"Answer:".',
    "zh": "请一步一步思考，每行写一步，最后另起一行，以“答案：”开头写出结果。",
}
_ANSWER = re.compile(r"^[\s#*>_-]*(?:(?:the\s+)?(?:final\s+)?answer|(?:最终)?答案)[\s*_]*[:：][\s*_]*", re.IGNORECASE)
_HAN = re.compile(r"[\u3400-\u9fff]")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_BROKEN = "\ufffd"  # what a tokenizer shows for the first bytes of a character whose last bytes are still to come


def language(text: str) -> str:
    """ "zh" if the text holds Chinese characters, else "en"."""
    return "zh" if _HAN.search(text) else "en"


def with_system(messages: Sequence[Message], system: str) -> list[Message]:
    """One system message first (the setting, then those in the history), then the turns; raises InvalidInput."""
    if messages[-1]["role"] != "user":
        raise InvalidInput("last_not_user")
    parts = [system.strip(), *(m["content"].strip() for m in messages if m["role"] == "system")]
    turns = [dict(m) for m in messages if m["role"] != "system"]
    text = "\n\n".join(part for part in parts if part)
    return [{"role": "system", "content": text}, *turns] if text else turns


def asking_for_steps(messages: Sequence[Message]) -> list[Message]:
    """The same turns, the last one asking for a chain of thought in its own language."""
    last = messages[-1]
    asked = f"{last['content']}\n\n{STEPS[language(last['content'])]}"
    return [*messages[:-1], {**last, "content": asked}]


def encode_chat(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of the model's own chat template, up to where the assistant speaks.

    Control tokens come from the template alone: "<|im_end|>" typed by a person is spelt out in ordinary tokens.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ModelLoadFailed("no_chat_template")
    markers = sorted(tokenizer.get_added_vocab(), key=len, reverse=True)
    if not any(marker in m["content"] for m in messages for marker in markers):
        return _encode(tokenizer, _render(tokenizer, messages))
    nonce = secrets.token_hex(8)
    held = [{**m, "content": f"{nonce}x{i}x"} for i, m in enumerate(messages)]
    ids: list[int] = []
    for i, piece in enumerate(re.split(rf"{nonce}x(\d+)x", _render(tokenizer, held))):
        ids += encode_plain(tokenizer, messages[int(piece)]["content"]) if i % 2 else _encode(tokenizer, piece)
    return ids


def encode_plain(tokenizer: Any, text: str) -> list[int]:
    """Token ids of text in which nothing is a control token."""
    return [id for piece in _cut(text, tokenizer.get_added_vocab()) for id in _encode(tokenizer, piece)]


def _cut(text: str, markers: Sequence[str]) -> list[str]:
    """Cut after the first character of every marker, so that no piece holds a whole one."""
    cuts = {m.start() + 1 for marker in markers for m in re.finditer(f"(?={re.escape(marker)})", text) if marker}
    edges = [0, *sorted(cuts), len(text)]
    return [text[a:b] for a, b in zip(edges, edges[1:], strict=False) if a < b]


def _render(tokenizer: Any, messages: Sequence[Message]) -> str:
    # enable_thinking is read by templates that have it (Qwen 3): here the strategy decides what is thought aloud.
    return tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=True, enable_thinking=False
    )


def _encode(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"] if text else []


class Pieces:
    """Turns growing token ids into text pieces that always end at a whole character."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._start = 0  # context that fixes how the next tokens are spelt
        self._read = 0  # ids already given out

    def add(self, id: int) -> str:
        """The text this token completes; empty while a character is unfinished."""
        self._ids.append(id)
        known, text = self._decode(self._read), self._decode(len(self._ids))
        if text.endswith(_BROKEN) or len(text) <= len(known):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return text[len(known) :]

    def rest(self) -> str:
        """What is left at the end, without an unfinished character."""
        known, text = self._decode(self._read), self._decode(len(self._ids))
        self._start = self._read = len(self._ids)
        return text[len(known) :].rstrip(_BROKEN)

    def _decode(self, end: int) -> str:
        ids = self._ids[self._start : end]
        return self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


class Plain:
    """Emits text as it comes."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._parts: list[str] = []

    def add(self, text: str) -> None:
        self._parts.append(text)
        self._emit(TextDelta(text))

    def end(self) -> tuple[str, tuple[str, ...]]:
        """The whole text and no thoughts."""
        return "".join(self._parts), ()


class Steps:
    """Emits each line of a chain of thought as a Thought, and what follows "Answer:" (答案：) as text.

    Without that mark the last line is the answer; one line is held back until the next shows it was not the last.
    """

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._thoughts: list[str] = []
        self._held = ""
        self._line = ""
        self._answer: list[str] | None = None

    def add(self, text: str) -> None:
        if self._answer is not None:
            self._say(text)
            return
        self._line += text
        while "\n" in self._line and self._answer is None:
            line, _, self._line = self._line.partition("\n")
            self._take(line)
        # the answer line is streamed as soon as something follows its mark
        if self._answer is None and (mark := _ANSWER.match(self._line)) and self._line[mark.end() :]:
            self._begin_answer(self._line[mark.end() :])

    def end(self) -> tuple[str, tuple[str, ...]]:
        """(answer, thoughts)."""
        if self._answer is None and self._line.strip():
            self._take(self._line)
        if self._answer is None:
            self._answer = []
            self._say(self._held)
        return "".join(self._answer).strip(), tuple(self._thoughts)

    def _take(self, line: str) -> None:
        if mark := _ANSWER.match(line):
            rest, self._line = line[mark.end() :] + "\n" + self._line, ""
            self._begin_answer(rest)
        elif line.strip():
            self._think()
            self._held = line.strip()

    def _think(self) -> None:
        if not self._held:
            return
        number = len(self._thoughts) + 1
        parent = str(number - 1) if self._thoughts else ""
        self._thoughts.append(self._held)
        self._emit(Thought(id=str(number), text=self._held, parent=parent, state="done"))
        self._held = ""

    def _begin_answer(self, text: str) -> None:
        self._think()
        self._answer, self._line = [], ""
        self._say(text.lstrip())

    def _say(self, text: str) -> None:
        if text and self._answer is not None:
            self._answer.append(text)
            self._emit(TextDelta(text))


class Paced:
    """Hands text on in pieces, at most one per `seconds`, so that a fast model does not flood the page."""

    def __init__(self, hand_on: Callable[[str], None], seconds: float = 0.05) -> None:
        self._hand_on = hand_on
        self._seconds = seconds
        self._waiting = ""
        self._last = 0.0

    def add(self, text: str) -> None:
        self._waiting += text
        if time.monotonic() - self._last >= self._seconds:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._hand_on(self._waiting)
            self._waiting, self._last = "", time.monotonic()


def final_answer(text: str) -> str:
    """What is to be compared: the number after "####", else the last number, else the text itself, normalised."""
    tail = text.rpartition("####")[2] if "####" in text else text
    numbers = _NUMBER.findall(tail)
    if not numbers:
        return " ".join(tail.split()).casefold().rstrip(".。")
    try:
        return format(Decimal(numbers[-1].replace(",", "")).normalize(), "f")
    except InvalidOperation:
        return numbers[-1]
