"""Small pieces that several cards of the captioning tab share: lit words, bars, figures, words to choose from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from demos import cards
from demos.text import say

_END = re.compile(r"</s>|\[SEP\]|<eos>|<end_of_text>|<\|[^|]*(?:end|eot)[^|]*\|>")

PANELS = 8  # of one sentence
FIGURES = (
    ("BLEU-1", "bleu1"), ("BLEU-2", "bleu2"), ("BLEU-3", "bleu3"), ("BLEU-4", "bleu4"),
    ("METEOR", "meteor"), ("ROUGE-L", "rouge_l"), ("CIDEr", "cider"),
)  # fmt: skip


def lit(text: str, spans: Sequence[Any], start: int = 0) -> str:
    """A text, escaped, with what lies in `spans` marked; it begins at character `start` of what they count from."""
    made, at = [], 0
    for first, last, n in _within(spans, start, len(text)):
        made.append(cards.escape(text[at:first]))
        made.append(f'<mark title="{n}-gram">{cards.escape(text[first:last])}</mark>')
        at = last
    return "".join([*made, cards.escape(text[at:])])


def _within(spans: Sequence[Any], start: int, length: int) -> Iterator[tuple[int, int, int]]:
    for span in spans:
        first, last = max(0, span.start - start), min(length, span.end - start)
        if first < last:
            yield first, last, span.n


def readable(token: str, lang: str) -> str:
    """A token as a person reads it: the mark that ends a text (</s>, [SEP], <|im_end|>) in words."""
    return f" ⟨{say('captioning_end', lang)}⟩" if _END.fullmatch(token.strip()) else token


def bars(candidates: Sequence[tuple[str, float]]) -> str:
    """Words with their probability, each a bar as long as it is likely."""
    rows = "".join(
        f'<li><span>{cards.escape(word)}</span><i style="--share:{min(1.0, max(0.0, share)):.3f}"></i>'
        f"<b>{cards.percent(share)}</b></li>"
        for word, share in candidates
    )
    return f'<ol class="bars">{rows}</ol>'


def figures(score: Any, others: Sequence[Any]) -> str:
    """The figures of one family's caption; what is best among the families stands out."""
    rows = [("CLIP-score", "clip", [other.clip for other in others], score.clip)]
    if score.compared:
        rows += [
            (name, key, [getattr(o.compared, key) for o in others if o.compared], getattr(score.compared, key))
            for name, key in FIGURES
        ]
    mark = ' class="best"'
    made = "".join(
        f'<div data-figure="{key}"{mark if _wins(value, all_) else ""}><dt>{name}</dt><dd>{value:.3f}</dd></div>'
        for name, key, all_, value in rows
    )
    return f'<dl class="figures">{made}</dl>'


def _wins(value: float, all_: Sequence[float]) -> bool:
    return len(all_) > 1 and value == max(all_) > min(all_)


def said(words: str) -> str:
    """A caption, from HTML."""
    return f'<p class="said">{words}</p>'


def sentence(name: str, parts: Sequence[tuple[str, str]], legend: str) -> tuple[str, str]:
    """Running text of which some words can be chosen, one at a time, and the panels of those words, of which the
    style sheet shows the one chosen.

    `parts` are (HTML, HTML of the panel, or "" for mere text). The style sheet knows at most PANELS of them.
    """
    chosen = [at for at, (_, panel) in enumerate(parts) if panel][:PANELS]
    text = "".join(
        _radio(name, words, checked=at == chosen[0]) if at in chosen else words for at, (words, _) in enumerate(parts)
    )
    panels = "".join(f'<div class="panel">{parts[at][1]}</div>' for at in chosen)
    legend = cards.escape(legend)
    return f'<p class="said" role="radiogroup" aria-label="{legend}">{text}</p>', f'<div class="panels">{panels}</div>'


def _radio(name: str, words: str, *, checked: bool) -> str:
    return f'<label><input type="radio" name="captioning-{name}"{" checked" * checked}>{words}</label>'


def pills(name: str, parts: Sequence[tuple[str, str]], legend: str) -> str:
    """Any number of words, one of which is chosen and shows its panel below: (HTML, HTML of the panel)."""
    made = "".join(
        f'<input type="radio" name="captioning-{name}" id="captioning-{name}-{at}"{" checked" * (not at)}>'
        f'<label for="captioning-{name}-{at}">{words}</label><div class="panel">{panel}</div>'
        for at, (words, panel) in enumerate(parts)
    )
    return f'<div class="picks" role="radiogroup" aria-label="{cards.escape(legend)}">{made}</div>'
