"""METEOR with its exact and stem modules: words are paired one to one, and scattered pairs cost. Knows words only.

Denkowski & Lavie 2014, "Meteor Universal", with the English parameters of METEOR 1.5. Left out, for they need WordNet
and tables of paraphrases: the synonym and paraphrase modules, and the discount of function words. The figures are
those of the METEOR program told to do the same (-m "exact stem" -p "0.85 0.2 0.6 0.5" -w "1.0 0.6"), but for a few
in a thousand sentences where its search misses the best pairing; they do not compare with the METEOR that captioning
papers report. Chinese characters have no stems: there, exact alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

_ALPHA, _BETA, _GAMMA = 0.85, 0.2, 0.6  # recall's share, and the shape and weight of the penalty
_STEM = 0.6  # what a pair is worth that only shares its stem
_KEPT = 32  # partial pairings followed at once: more than any sentence needs, but a babbled one must end as well

Stem = Callable[[str], str]
Score = tuple[float, int, int]  # worth of the pairs, chunks (negative), distance (negative): the greatest is the best


@dataclass(frozen=True, slots=True)
class Matched:
    """What METEOR counts; those of many captions are added up before the score is taken."""

    worth: float = 0.0  # pairs, those of stems alone for less
    pairs: int = 0
    chunks: int = 0  # runs of pairs that are neighbours on both sides; 0 where the two sides are the same
    said: int = 0
    wanted: int = 0

    def __add__(self, other: Matched) -> Matched:
        return Matched(
            self.worth + other.worth,
            self.pairs + other.pairs,
            self.chunks + other.chunks,
            self.said + other.said,
            self.wanted + other.wanted,
        )

    @property
    def score(self) -> float:
        """In [0, 1]."""
        if not self.worth:
            return 0.0
        precision, recall = self.worth / self.said, self.worth / self.wanted
        mean = 1 / ((1 - _ALPHA) / precision + _ALPHA / recall)
        return mean * (1 - _GAMMA * (self.chunks / self.pairs) ** _BETA)


def stemmer() -> Stem:
    """Porter's English stemmer (Snowball). Of a thread's own: it works in place."""
    import snowballstemmer

    stem: Stem = snowballstemmer.stemmer("english").stemWord
    return stem


def match(said: Sequence[str], references: Sequence[Sequence[str]], stem: Stem) -> Matched:
    """With the reference (of at least one) that it fits best."""
    return max((_match(said, reference, stem) for reference in references), key=lambda found: found.score)


def _match(said: Sequence[str], reference: Sequence[str], stem: Stem) -> Matched:
    """The pairing with the most pairs, then the greatest worth, the fewest chunks and the shortest moves."""
    wanted = [stem(word) for word in reference]
    partial: dict[tuple[int, int], tuple[int, Score]] = {(0, -1): (0, (0.0, 0, 0))}
    for at, word in enumerate(said):
        root = stem(word)
        places = [place for place, other in enumerate(wanted) if other == root]
        grown: dict[tuple[int, int], tuple[int, Score]] = {}
        for (used, last), (pairs, score) in partial.items():
            _keep(grown, (used, -1), (pairs, score))
            for place in places:
                if not used >> place & 1:
                    worth = 1.0 if reference[place] == word else _STEM
                    _keep(grown, (used | 1 << place, place), (pairs + 1, _added(score, worth, at, place, last)))
        best = sorted(grown.items(), key=lambda item: item[1], reverse=True)
        partial = dict(best[:_KEPT])
    pairs, (worth, chunks, _) = max(partial.values())
    same = pairs == len(said) == len(reference) and chunks == -1
    return Matched(worth, pairs, 0 if same else -chunks, len(said), len(reference))


def _added(score: Score, worth: float, at: int, place: int, last: int) -> Score:
    total, chunks, moved = score
    return total + worth, chunks - (last < 0 or place != last + 1), moved - abs(at - place)


def _keep(grown: dict[tuple[int, int], tuple[int, Score]], state: tuple[int, int], found: tuple[int, Score]) -> None:
    if state not in grown or found > grown[state]:
        grown[state] = found
