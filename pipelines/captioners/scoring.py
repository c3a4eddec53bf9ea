"""The families' captions side by side: how well each fits the picture, and how close it is to given references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from pipelines.captioners.metrics import Rarity, clip_score, compare
from pipelines.captioners.plan import FamilyScore
from pipelines.gallery import Gallery

if TYPE_CHECKING:
    from pipelines.captioners.starter import Starter

MAX_REFERENCES = 20


def lines(text: str) -> list[str]:
    """References as they are typed: one a line, at most MAX_REFERENCES."""
    return [line.strip() for line in text.splitlines() if line.strip()][:MAX_REFERENCES]


def scores(
    captions: Mapping[str, str], references: Sequence[str], seen: Starter, language: str
) -> tuple[FamilyScore, ...]:
    """Of captions by family, those that say something. How rare a word is, CIDEr learns from the gallery's captions."""
    said = {family: caption for family, caption in captions.items() if caption}
    rarity = _rarity(seen.gallery, language) if references else None
    return tuple(
        FamilyScore(
            family,
            caption,
            clip_score(seen.cosine(caption)),
            compare(caption, references, rarity) if rarity else None,
        )
        for family, caption in said.items()
    )


@lru_cache(maxsize=4)
def _rarity(gallery: Gallery, language: str) -> Rarity:
    """Counted once: it takes longer than a caption."""
    return Rarity.of(item.caption(language) for item in gallery.items)
