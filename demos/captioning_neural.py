"""The neural family's card: what each way of choosing words came to, and where the decoder looked for each word."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from PIL import Image

from demos import cards
from demos.captioning_parts import lit, pills, readable, said
from demos.text import say
from pipelines.captioners.plan import Candidate

SHADE = (15, 23, 42)  # over what the decoder did not look at: light shows on a picture of any colour
NOTHING = Candidate("", 0.0, ())  # where a stop came first
DARKEST = 225  # of 255: the rest of the picture can still be made out


def neural(made: Any, spans: Sequence[Any], image: str, lang: str) -> tuple[str, str]:
    """The caption; all decodings with the probability of every token, and the attention of each word."""
    best = next(iter(made.best.candidates), NOTHING)
    ways = "".join(_way(way, lang) for way in made.decoded)
    hint = cards.hint(say("captioning_tokens_help", lang))
    return said(lit(best.text, spans)), f'{hint}<ul class="ways">{ways}</ul>{attention(made.attention, image, lang)}'


def _way(way: Any, lang: str) -> str:
    """One decoding: its best caption, token by token, and the others folded away."""
    best, *others = way.candidates or (NOTHING,)
    name = say(f"captioning_way_{way.decoding}", lang)
    total = say("captioning_total", lang, logprob=f"{best.logprob:.2f}")
    return (
        f'<li data-way="{cards.escape(way.decoding)}"><b>{cards.escape(name)}</b>'
        f"<small>{cards.escape(total)}</small>{_shaded(best, lang)}{_others(others, lang)}</li>"
    )


def _shaded(one: Any, lang: str) -> str:
    return cards.shaded((readable(token, lang), logprob) for token, logprob in spaced(one.tokens))


def _others(others: Sequence[Any], lang: str) -> str:
    """The candidates that came after, likeliest first."""
    if not others:
        return ""
    rows = [[cards.escape(other.text), f"{other.logprob:.2f}"] for other in others]
    heads = [say("captioning_other", lang), say("captioning_logprob", lang)]
    title = cards.escape(say("captioning_others", lang, count=len(others)))
    return f'<details class="fold"><summary>{title}</summary>{cards.table(heads, rows)}</details>'


def spaced(tokens: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Word pieces as one reads them: "##" glues a piece to the last, and the others stand apart. Tokens that bring
    their own spaces stay as they are."""
    if any(text[:1].isspace() for text, _ in tokens):
        return list(tokens)
    return [(text.removeprefix("##") if text.startswith("##") else f" {text}", logprob) for text, logprob in tokens]


def attention(words: Sequence[Any], image: str, lang: str) -> str:
    """The words of the caption; choosing one lays its heat map over the picture."""
    if not words:
        return ""
    parts = [(cards.escape(word.word), _seen(word, image, lang)) for word in words]
    title, side = cards.escape(say("captioning_attention", lang)), len(words[0].cells)
    hint = cards.hint(say("captioning_attention_help", lang, side=side))
    return f"<h4>{title}</h4>{pills('word', parts, say('captioning_attention', lang))}{hint}"


def _seen(word: Any, image: str, lang: str) -> str:
    """The picture in the square that the model saw, the map over it, and both in words."""
    share, row, column = max(
        (cell, row, column) for row, cells in enumerate(word.cells, 1) for column, cell in enumerate(cells, 1)
    )
    told = say("captioning_strongest", lang, word=word.word, row=row, column=column, share=cards.percent(share))
    return (
        f'<div class="seen"><img src="{cards.escape(image)}" alt="">'
        f'<img class="heat" src="{heat(word.cells)}" alt="{cards.escape(told)}"></div>'
        f"<small>{cards.escape(told)}</small>"
    )


def heat(cells: Sequence[Sequence[float]]) -> str:
    """A map as the address of a small picture, a pixel a cell, which the browser stretches: the more attention a cell
    had, the less it is in the shade; scaled to the largest."""
    top = max(max(row) for row in cells) or 1.0
    shade = bytes(round(DARKEST * (1 - max(0.0, cell) / top)) for row in cells for cell in row)
    picture = Image.new("RGB", (len(cells[0]), len(cells)), SHADE)
    picture.putalpha(Image.frombytes("L", picture.size, shade))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
