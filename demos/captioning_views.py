"""What the captioning tab shows of a result: a card per family, its mechanism in view. HTML only; knows no component.

Whatever opens or switches is a radio button or a <details>: it answers the keyboard, and no server is asked.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from demos import cards
from demos.captioning_neural import neural
from demos.captioning_parts import bars, figures, lit, said, sentence
from demos.captioning_tree import beam_tree
from demos.text import say
from pipelines.gallery import Gallery

CHOSEN = ' class="chosen"'
ORDER = ("template", "retrieval", "neural")  # as the field came to them

Pictures = Callable[[str], str]  # a gallery picture's id -> the address of its picture, or ""


def families(result: Any, image: str, lang: str, pictures: Pictures) -> str:
    """The cards of the families that ran, the beam tree below them; `image` is the address of the picture."""
    scores = {score.family: score for score in result.scores}
    made = ""
    for name in ORDER:
        score = scores.get(name)
        spans = score.compared.matched if score is not None and score.compared else ()
        if (parts := _parts(name, result, spans, image, lang, pictures)) is not None:
            made += _card(name, parts, figures(score, result.scores) if score is not None else "", lang)
    tree = beam_tree(result.neural.tree, lang) if result.neural else ""
    return f'<div class="families">{made}</div>{_meaning(result.scores, lang)}{tree}'


def _parts(
    name: str, result: Any, spans: Sequence[Any], image: str, lang: str, pictures: Pictures
) -> tuple[str, str] | None:
    """The caption and the mechanism of a family, or None where it did not run."""
    if name == "template":
        return template(result.template, spans, lang) if result.template else None
    if name == "retrieval":
        return retrieval(result.retrieved, spans, lang, pictures) if result.retrieved else None
    return neural(result.neural, spans, image, lang) if result.neural else None


def _card(name: str, parts: tuple[str, str], scored: str, lang: str) -> str:
    """Five rows, the same in every card, so that what stands side by side is on one line."""
    title = cards.escape(say(f"captioning_family_{name}", lang))
    said, body = parts
    return (
        f'<section class="family" data-family="{name}" aria-labelledby="family-{name}">'
        f'<h3 id="family-{name}">{title}</h3>{cards.hint(say(f"captioning_about_{name}", lang))}{said}'
        f"<div>{scored}</div><div>{body}</div></section>"
    )


def _meaning(scores: Sequence[Any], lang: str) -> str:
    """What the figures mean and where they flatter, folded away."""
    if not scores:
        return ""
    known = ["clip", *(("bleu", "meteor", "rouge", "cider") if any(score.compared for score in scores) else ())]
    lines = "".join(f"<li>{cards.escape(say(f'captioning_meaning_{key}', lang))}</li>" for key in known)
    title = cards.escape(say("captioning_meaning", lang))
    return f'<details class="fold"><summary>{title}</summary><ul>{lines}</ul></details>'


# -- template --------------------------------------------------------------------------------------


def template(made: Any, spans: Sequence[Any], lang: str) -> tuple[str, str]:
    """The sentence; what else each of its slots could have held, which choosing a word shows."""
    slots = {slot.name: slot for slot in made.slots}
    parts, at = [], 0
    for text, name in made.pieces:
        words = lit(text, spans, at)
        at += len(text)
        parts.append((words, _slot(slots[name], lang) if name in slots else ""))
    return sentence("slot", parts, say("captioning_slots", lang))


def _slot(slot: Any, lang: str) -> str:
    name, source = (say(f"captioning_{key}", lang) for key in (f"slot_{slot.name}", f"source_{slot.source}"))
    return f"<h4>{cards.escape(name)}</h4>{bars(slot.candidates)}{cards.hint(source)}"


# -- retrieval -------------------------------------------------------------------------------------


def retrieval(made: Any, spans: Sequence[Any], lang: str, pictures: Pictures) -> tuple[str, str]:
    """The caption; why it was taken, and the neighbours with theirs."""
    taken = next((at for at, one in enumerate(made.neighbours) if one.caption == made.caption), 0)
    rows = "".join(_neighbour(at, one, at == taken, lang, pictures) for at, one in enumerate(made.neighbours))
    return said(lit(made.caption, spans)), (
        f'<p class="why">{cards.escape(why(made, taken, lang))}</p><ol class="neighbours">{rows}</ol>'
    )


def why(made: Any, taken: int, lang: str) -> str:
    """Why this caption was taken, in a sentence."""
    if not made.neighbours:
        return say("captioning_why_none", lang)
    one = made.neighbours[taken]
    return say(
        f"captioning_why_{made.rule}",
        lang,
        place=taken + 1,
        count=len(made.neighbours),
        similarity=f"{one.similarity:.2f}",
        agreement=f"{one.agreement:.2f}",
    )


def _neighbour(at: int, one: Any, taken: bool, lang: str, pictures: Pictures) -> str:
    address = pictures(one.id)
    picture = f'<img src="{cards.escape(address)}" alt="" width="64" height="64" loading="lazy">' if address else ""
    mark = f'<b class="taken">{cards.escape(say("captioning_taken", lang))}</b>' if taken else ""
    words = say("captioning_near", lang, similarity=f"{one.similarity:.2f}", agreement=f"{one.agreement:.2f}")
    return (
        f"<li{CHOSEN if taken else ''}>{picture}<div><span>{at + 1}. {cards.escape(one.caption)}</span>"
        f"{mark}<small>{cards.escape(words)}</small></div></li>"
    )


def shipped_pictures(ids: Iterable[str]) -> Pictures:
    """Addresses of the gallery's own pictures that carry the picture in them: no file is made, nothing is fetched."""
    wanted = set(ids)
    if not wanted:
        return lambda id: ""
    gallery = Gallery.shipped()
    found = {item.id: gallery.data(at) for at, item in enumerate(gallery.items) if item.id in wanted}
    return lambda id: f"data:image/webp;base64,{b64encode(found[id]).decode()}" if id in found else ""
