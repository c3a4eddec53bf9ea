"""The chat tab: an answer streamed into the conversation, its thoughts folded, its tokens' probabilities on demand.

The conversation lives in the page, not here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import gradio as gr

from demos import cards
from demos.edge import JOINER, Edge, Updates, plain_markdown
from demos.runs import Run
from demos.tab import Built, Tab
from demos.text import label, say
from demos.widgets import QUICK, Form, samples
from pipelines.core.errors import InvalidInput
from pipelines.core.streaming import Event, TextDelta, Thought

Chat = list[dict[str, Any]]

EXAMPLES = (
    "Explain in two sentences why the sky is blue.",
    "Write a haiku about a cat who dreams of the sea.",
    "Tom has 3 boxes with 4 apples each and eats 2. How many are left?",
    "用两句话解释天空为什么是蓝色的。",
)
UNSURE = 8  # rows of the table of least certain tokens
_ROOT = "thinking"


def history(chat: Chat) -> list[dict[str, str]]:
    """The conversation as the model is given it: no thoughts, plain text."""
    return [
        {"role": message["role"], "content": _text(message["content"])}
        for message in chat
        if not (message.get("metadata") or {}).get("title")
    ]


def _text(content: Any) -> str:
    if isinstance(content, list):
        content = "\n".join(_text(block) for block in content)
    if isinstance(content, dict):
        content = content.get("text", "")
    return str(content or "").replace(JOINER, "")


class Answer:
    """One answer growing at the end of the conversation."""

    def __init__(self, chat: Chat, chatbot: gr.Chatbot, tokens: gr.HTML, lang: str) -> None:
        self.before = list(chat)
        self.chatbot = chatbot
        self.tokens = tokens
        self.lang = lang
        self.text = ""
        self.thoughts: list[str] = []

    def start(self) -> Updates:
        return {self.chatbot: self._messages(pending=True), self.tokens: ""}

    def after(self, event: Event) -> Updates:
        if isinstance(event, TextDelta):
            self.text += event.text
        elif isinstance(event, Thought):
            self.thoughts.append(event.text)
        return {self.chatbot: self._messages(pending=not self.text)}

    def done(self, result: Any) -> Updates:
        self.text, self.thoughts = result.text, list(result.thoughts)
        shown = token_view(result.tokens, self.lang) if result.tokens else ""
        return {self.chatbot: self._messages(pending=False), self.tokens: shown}

    def _messages(self, *, pending: bool) -> Chat:
        added: Chat = []
        if self.thoughts:
            state = "pending" if pending else "done"
            root = {"title": say("reasoning_thinking", self.lang), "id": _ROOT, "status": state}
            added.append({"role": "assistant", "content": "", "metadata": root})
            added += [self._thought(number, text) for number, text in enumerate(self.thoughts, 1)]
        if self.text:
            added.append({"role": "assistant", "content": plain_markdown(self.text)})
        return [*self.before, *added]

    def _thought(self, number: int, text: str) -> dict[str, Any]:
        title = say("reasoning_step", self.lang, number=number)
        about = {"title": title, "id": f"{_ROOT}-{number}", "parent_id": _ROOT}
        return {"role": "assistant", "content": plain_markdown(text), "metadata": about}


def token_view(tokens: Sequence[Any], lang: str) -> str:
    """The answer with each token shaded by its probability, and a table of the least certain ones."""
    unsure = sorted(tokens, key=lambda token: token.logprob)[:UNSURE]
    rows = [
        [
            _visible(token.text),
            cards.percent(math.exp(token.logprob)),
            " · ".join(f"{_visible(text)} {cards.percent(probability)}" for text, probability in token.top),
        ]
        for token in unsure
    ]
    heads = [say(f"reasoning_token_{key}", lang) for key in HEADS]
    help_text = cards.hint(say("reasoning_tokens_help", lang))
    return help_text + cards.shaded((token.text, token.logprob) for token in tokens) + cards.table(heads, rows)


HEADS = ("text", "probability", "others")


def _visible(text: str) -> str:
    return f"<code>{cards.escape(text.replace(' ', '␣').replace(chr(10), '⏎'))}</code>"


# -- editing the conversation: each listener returns (box, chat) -------------------------------------


def send(request: gr.Request, lang: str, text: str, chat: Chat) -> tuple[str, Chat]:
    """Move what was typed into the conversation."""
    if not text.strip():
        raise InvalidInput("empty", name=say("reasoning_message", lang))
    return "", [*chat, {"role": "user", "content": plain_markdown(text)}]


def retry(chat: Chat, data: gr.RetryData) -> Chat:
    """Back to the message whose answer is wanted again."""
    return chat[: data.index + 1]


def undo(chat: Chat, data: gr.UndoData) -> tuple[str, Chat]:
    """Take the last message back into the box."""
    return _text(chat[data.index]["content"]), chat[: data.index]


def edit(chat: Chat, data: gr.EditData) -> Chat:
    """A message changed: what came after it is gone, and it is answered anew."""
    index = data.index if isinstance(data.index, int) else data.index[0]
    return [*chat[:index], {**chat[index], "content": plain_markdown(str(data.value))}]


# -- the tab -----------------------------------------------------------------------------------------


def build(edge: Edge) -> Built:
    form = Form(edge, "reasoning")
    run = Run(form)
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            chatbot = gr.Chatbot(
                label=label("reasoning_conversation"), height=420, buttons=["copy", "copy_all"], editable="user",
                elem_id="reasoning-chat", placeholder=label("reasoning_placeholder"), allow_tags=False,
            )  # fmt: skip
            box = gr.Textbox(
                label=label("reasoning_message"), lines=1, max_lines=8, elem_id="reasoning-box",
                placeholder=label("reasoning_hint"), submit_btn=False,
            )  # fmt: skip
            run.buttons()
            run.lines()
            run.made()
            samples([(text,) for text in EXAMPLES], [box], "reasoning")
            run.copies()
        with gr.Column(scale=2, min_width=320):
            models = form.models()
            form.rest(without=("messages", "alternatives"))
            with gr.Accordion(label("reasoning_tokens"), open=False, elem_id="reasoning-tokens"):
                form.field("alternatives")
                tokens = gr.HTML(elem_id="reasoning-token-view")

    def asked(text: str, chat: Chat, *values: Any) -> dict[str, Any]:
        messages = history(chat) + ([{"role": "user", "content": text}] if text.strip() else [])
        return {**form.raw(*values), "messages": messages}

    def answered(chat: Chat, *values: Any) -> dict[str, Any]:
        return {**form.raw(*values), "messages": history(chat), "chat": chat}

    def view(raw: dict[str, Any], lang: str) -> Answer:
        return Answer(raw.pop("chat"), chatbot, tokens, lang)

    sent = gr.on(
        [box.submit, run.go.click], edge.guarded(send), [box, chatbot], [box, chatbot],
        api_name="reasoning_send", trigger_mode="once", **QUICK,
    )  # fmt: skip
    again = chatbot.retry(retry, [chatbot], [chatbot], api_name="reasoning_retry", **QUICK)
    edited = chatbot.edit(edit, [chatbot], [chatbot], api_name="reasoning_edit", **QUICK)
    chatbot.undo(undo, [chatbot], [box, chatbot], api_name="reasoning_undo", **QUICK)
    for name, changed in (("run", sent), ("again", again), ("anew", edited)):
        run.listen(changed.success, view, [chatbot, tokens], inputs=[chatbot, *form.inputs], raw=answered, name=name)
    run.wire([box, chatbot, *form.inputs], asked)
    return Built((models.picker, *models.outputs), models.fresh)


TAB = Tab("reasoning", build)
