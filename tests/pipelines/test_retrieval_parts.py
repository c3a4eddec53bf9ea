"""The arithmetic of retrieval, on numbers one can check by hand: no model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.core.errors import InvalidInput
from pipelines.retrievers import asking, cutoff, evaluation, index, layout, ranking, zero_shot
from pipelines.retrievers.places import distinct, language_of
from pipelines.retrievers.searching import SAMPLE, Indexed, Scan


def units(*rows: tuple[float, ...]) -> np.ndarray:
    made = np.array(rows, dtype=np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def background(count: int = 2_000) -> np.ndarray:
    return np.random.default_rng(0).normal(0.2, 0.03, count)


# -- where the hits end ----------------------------------------------------------------------------


def test_the_list_ends_at_the_largest_drop_of_what_stands_out() -> None:
    matches = np.array([0.62, 0.6, 0.58, 0.41, 0.40])
    end = cutoff.adaptive(matches, np.concatenate([background(), matches]))
    assert (end.reason, end.kept) == ("gap", 3) and 0.41 < end.value < 0.58
    assert end.mean == pytest.approx(0.2, abs=0.005) and end.spread == pytest.approx(0.03, abs=0.003)


def test_without_a_drop_it_ends_where_the_background_begins() -> None:
    matches = np.arange(0.5, 0.2, -0.01)
    end = cutoff.adaptive(matches, np.concatenate([background(), matches]))
    assert end.reason == "floor" and end.kept == (matches >= end.value).sum()
    assert end.value == pytest.approx(end.mean + end.spread * np.sqrt(2 * np.log(2_030)))


def test_the_drop_after_the_picture_itself_does_not_count() -> None:
    matches = np.array([1.0, 0.62, 0.6, 0.41, 0.40])
    end = cutoff.adaptive(matches, np.concatenate([background(), matches]))
    assert (end.reason, end.kept) == ("gap", 3)
    alone = np.append(1.0, np.sort(background())[::-1][:50])
    assert cutoff.adaptive(alone, np.append(background(), 1.0)).kept == 1


def test_pure_background_is_not_taken_for_a_match() -> None:
    kept = []
    for seed in range(50):
        scores = np.random.default_rng(seed).normal(0.2, 0.03, 2_000)
        kept.append(cutoff.adaptive(np.sort(scores)[::-1][:100], scores).kept)
    assert np.mean(kept) < 1 and np.median(kept) == 0


def test_a_few_pictures_are_cut_only_at_a_plain_drop() -> None:
    plain, flat = np.array([0.5, 0.48, 0.2]), np.array([0.5, 0.4, 0.3])
    assert cutoff.adaptive(plain, plain).reason == "gap" and cutoff.adaptive(plain, plain).kept == 2
    assert cutoff.adaptive(flat, flat).reason == "none" and cutoff.adaptive(flat, flat).kept == 3


def test_equal_scores_are_all_kept() -> None:
    same = np.full(20, 0.3)
    assert cutoff.adaptive(same, same).kept == 20 and cutoff.adaptive(same, same).reason == "none"


# -- what is asked ---------------------------------------------------------------------------------


def test_the_weight_moves_the_query_from_the_picture_to_the_text() -> None:
    text, picture = units((1, 0), (0, 1))
    assert asking.blend(text, picture, 1.0) == pytest.approx(text)
    assert asking.blend(text, picture, 0.0) == pytest.approx(picture)
    assert asking.blend(text, picture, 0.5) == pytest.approx(units((1, 1))[0])
    assert np.isfinite(asking.blend(text, -text, 0.5)).all()


def test_unwanted_things_are_pushed_down_and_the_rest_stays() -> None:
    # 40 of the background, a fruit, and an apple: more of a fruit still, but also what is unwanted
    rows = units(*[(0, 0, 1)] * 40, (1, 0, 0.3), (1, 0.8, 0))
    candidates, fruit, apple = Scan(rows, np.arange(42)), units((1, 0.5, 0))[0], units((0.2, 1, 0))
    plain, without = (candidates.search(fruit, unwanted, 42) for unwanted in (apple[:0], apple))
    assert plain.items[:2].tolist() == [41, 40] and without.items[:2].tolist() == [40, 41]
    before = dict(zip(plain.items.tolist(), plain.scores.tolist(), strict=True))
    after = dict(zip(without.items.tolist(), without.scores.tolist(), strict=True))
    assert all(after[row] == pytest.approx(before[row]) for row in range(41)) and after[41] < before[41]


def test_what_the_query_itself_asks_for_is_not_taken_away() -> None:
    rows, query = units(*np.random.default_rng(0).normal(size=(50, 6)).tolist()), units((1, 0, 0, 0, 0, 0))
    assert asking.penalty(rows, query[0], query) == pytest.approx(np.zeros(50), abs=1e-6)


def test_of_several_unwanted_things_the_one_shown_most_counts() -> None:
    rows, query = units((0, 0, 1), (0, 0, 1), (0, 0, 1), (0, 3, 4), (4, 3, 0)), units((0, 0, 1))[0]
    first, second = units((1, 0, 0), (0, 1, 0))
    alone = [asking.penalty(rows, query, one[None]) for one in (first, second)]
    assert asking.penalty(rows, query, np.stack([first, second])) == pytest.approx(np.maximum(*alone))
    assert alone[0].tolist() == pytest.approx([0, 0, 0, 0, 0.8]) and alone[1][3] == pytest.approx(0.6)


def test_things_are_separated_by_commas_of_either_script() -> None:
    assert asking.words("dog, 猫，red car；dog、 ") == ("dog", "猫", "red car")


def test_the_captions_language_follows_the_query() -> None:
    assert [language_of(text) for text in ("a cat", "红色的 car", "")] == ["en", "zh", "en"]


# -- an index instead of a scan ----------------------------------------------------------------------


class Kept:
    """As much of a collection as a search needs: an index whose ids are not the places of its rows."""

    def __init__(self, rows: np.ndarray) -> None:
        self._index = index.Quantized(rows.shape[1])
        self._index.add(np.arange(len(rows))[::-1] + 1_000, rows)

    def __len__(self) -> int:
        return len(self._index)

    @contextmanager
    def index(self, model: str) -> Iterator[index.Index]:
        yield self._index


def test_an_index_answers_plain_queries_and_a_scan_those_with_unwanted_things() -> None:
    rows = units(*np.random.default_rng(1).normal(size=(6_000, 8)).tolist())
    kept, everything = Indexed(Kept(rows), "m"), Scan(rows, np.arange(6_000)[::-1] + 1_000)  # type: ignore[arg-type]
    plain, exact = (one.search(rows[7], rows[:0], 5) for one in (kept, everything))
    assert plain.items.tolist() == exact.items.tolist() and plain.items[0] == 6_992
    assert plain.scores == pytest.approx(exact.scores, abs=1e-5) and plain.rows == pytest.approx(exact.rows)
    assert plain.backend == "quantized" and len(plain.background) == SAMPLE
    without, same = (one.search(rows[7], rows[8:9], 5) for one in (kept, everything))
    assert without.backend == "exact" and without.items.tolist() == same.items.tolist()
    items, some = kept.some(10)
    assert len(items) == 10 and some == pytest.approx(rows[6_999 - items])


# -- figures ---------------------------------------------------------------------------------------


def test_ties_count_against_the_model() -> None:
    assert ranking.rank(np.array([0.1, 0.9, 0.5]), [1]) == 1
    assert ranking.rank(np.array([0.5, 0.5, 0.5]), [1]) == 3
    assert ranking.rank(np.array([0.5, 0.9, 0.5, 0.7]), [0, 3]) == 2


@pytest.mark.parametrize("relevant", [1, 2, 3])
def test_chance_is_that_of_every_order_tried(relevant: int) -> None:
    firsts = [min(order[:relevant]) for order in permutations(range(1, 7))]  # places of the relevant ones among 6
    chance = ranking.chance([relevant], 6)
    assert chance["r@1"] == pytest.approx(np.mean([first <= 1 for first in firsts]))
    assert chance["r@5"] == pytest.approx(np.mean([first <= 5 for first in firsts]))
    assert chance["r@10"] == 1.0
    assert chance["mrr"] == pytest.approx(np.mean([1 / first for first in firsts]))


def test_figures_of_known_ranks() -> None:
    found = ranking.figures([1, 2, 6, 20], [1, 1, 1, 1], 40)
    assert (found.r1, found.r5, found.r10) == (0.25, 0.5, 0.75)
    assert found.mrr == pytest.approx((1 + 1 / 2 + 1 / 6 + 1 / 20) / 4)
    assert found.chance["r@5"] == pytest.approx(5 / 40)


def test_a_caption_is_relevant_to_every_picture_that_bears_it() -> None:
    pairing = evaluation.Pairing.of(["Cat", "dog", "cat", "", "sun"], lambda picture: picture != 4)
    assert pairing.texts == ("Cat", "dog", "sun") and pairing.pictures_of == ((0, 2), (1,), (4,))
    assert pairing.asked_texts == (0, 1) and pairing.asked_pictures == (0, 1, 2)
    assert distinct(["b", "B ", ""]) == {"b": (0, [0, 1])}


def test_rank_improves_when_the_judge_is_right_and_the_deep_ones_keep_their_place() -> None:
    count = 30
    pairing = evaluation.Pairing.of([f"text {number}" for number in range(count)])
    scores = np.tile(np.linspace(0.9, 0.1, count), (count, 1))  # every text likes picture 0 best
    before, _ = evaluation.both_ways(pairing, scores)
    asked = []

    def judge(pairs: Sequence[tuple[int, int]]) -> Any:
        asked.extend(pairs)
        return SimpleNamespace(scores=[float(text == picture) for text, picture in pairs], seconds=len(pairs) / 1e3)

    judged = evaluation.reranked(pairing, scores, judge)
    after = judged.text_to_picture
    assert judged.milliseconds == pytest.approx(1)
    assert before.r1 == pytest.approx(1 / count)
    assert after.r1 == pytest.approx(evaluation.DEPTH / count) and len(asked) == len(set(asked))
    deep = sum(1 / rank for rank in range(evaluation.DEPTH + 1, count + 1)) / count
    assert after.mrr == pytest.approx(after.r1 + deep)


# -- zero-shot classification ----------------------------------------------------------------------


def test_prompts_are_averaged_as_unit_vectors() -> None:
    picture = units((1, 0))[0]
    texts = np.stack([units((1, 0), (0, 1)), units((0, 1), (0, 1))])  # [templates, labels, dimension]
    together, alone = zero_shot.probabilities(picture, texts, scale=10.0)
    odds = np.exp(10 * np.sqrt(0.5))
    assert together[0] == pytest.approx(odds / (1 + odds))
    assert alone[0, 0] == pytest.approx(np.exp(10) / (np.exp(10) + 1)) and alone[1].tolist() == [0.5, 0.5]


def test_labels_fill_the_templates_and_other_braces_stay() -> None:
    labels, templates = zero_shot.checked(["cat ", "dog", "cat"], ["a {} {x}"])
    assert zero_shot.prompts(labels, templates) == ["a cat {x}", "a dog {x}"]
    assert zero_shot.checked(["a", "b"], [])[1] == ("{}",)


@pytest.mark.parametrize(
    ("labels", "templates", "code"),
    [
        (["cat", " cat"], [], "too_few_labels"),
        (["cat", "dog"], ["a photo"], "template_without_slot"),
        ([f"label {number}" for number in range(201)], [], "too_many_lines"),
        (["cat", "dog" * 100], [], "too_long"),
    ],
)
def test_labels_that_make_no_sense_are_refused(labels: list[str], templates: list[str], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        zero_shot.checked(labels, templates)
    assert caught.value.code == code


# -- the map ---------------------------------------------------------------------------------------


def test_the_plane_shows_the_two_widest_directions() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 6)) * np.array([5, 2, 0.1, 0.1, 0.1, 0.1]) + 3
    places, explained = layout.plane(rows)
    assert np.abs(np.corrcoef(places[:, 0], rows[:, 0])[0, 1]) > 0.99
    assert np.abs(np.corrcoef(places[:, 1], rows[:, 1])[0, 1]) > 0.99
    assert explained > 0.99 and np.allclose(layout.plane(rows)[0], places)


def test_the_gap_is_the_distance_of_the_means() -> None:
    assert layout.gap(np.array([[0.0, 0], [2, 0]]), np.array([[1.0, 3], [1, 5]])) == pytest.approx(4)
    assert layout.gap(np.empty((0, 2)), np.ones((1, 2))) == 0


def test_one_picture_alone_is_a_point() -> None:
    places, explained = layout.plane(np.ones((1, 4)))
    assert places.tolist() == [[0, 0]] and explained == 1
