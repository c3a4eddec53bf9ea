"""Captioning without a model: decoding, the figures, and what is refused before anything is loaded."""

from __future__ import annotations

import math

import pytest
import torch

from pipelines.captioners import beams
from pipelines.captioners.drawing import Draw, nucleus
from pipelines.captioners.families import FAMILIES, clean, prompt
from pipelines.captioners.generation import Watch
from pipelines.captioners.plan import Plan
from pipelines.core.streaming import Job, Stop
from pipelines.vision_language import shrink
from tests.tiny import captioning, serving

START, END = 0, 1


def plan(decoding: str = "greedy", beams: int = 3, seed: int = 0) -> Plan:
    return Plan(decoding, beams, 1.0, 1.0, 10, seed)


def table(rows: dict[tuple[int, ...], list[float]]) -> beams.Logprobs:
    """Next-token log-probabilities looked up by what was said so far."""
    return lambda ids: torch.tensor([rows[tuple(row)] for row in ids.tolist()]).log()


def searched(rows: dict[tuple[int, ...], list[float]], *plans: Plan, stop: Stop | None = None) -> list[beams.Search]:
    """Searches of these plans, gone through together."""
    searches = [beams.Search(each, END) for each in plans]
    beams.run(searches, table(rows), (START,), 5, Job(stop))
    return searches


def test_nucleus_keeps_the_smallest_set_with_enough_mass() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert nucleus(logits, 0.6).isfinite().tolist() == [[True, True, False, False]]
    assert nucleus(logits, 0.01).isfinite().tolist() == [[True, False, False, False]]


def test_draws_follow_the_probabilities() -> None:
    draw, wanted = Draw(3, 1.0, 1.0), torch.tensor([0.6, 0.3, 0.1])
    drawn = draw(torch.empty(0), wanted.log().expand(20_000, 3)).argmax(-1)
    assert torch.bincount(drawn, minlength=3) / 20_000 == pytest.approx(wanted, abs=0.015)


GREEDY_MISSES = {
    (0,): [0.0, 0.0, 0.6, 0.4],
    (0, 2): [0.0, 0.4, 0.3, 0.3],
    (0, 3): [0.0, 1.0, 0.0, 0.0],
    (0, 2, 2): [0.0, 1.0, 0.0, 0.0],
    (0, 2, 3): [0.0, 1.0, 0.0, 0.0],
}


def test_beams_find_the_caption_that_greed_misses() -> None:
    greedy, wide = searched(GREEDY_MISSES, plan("greedy"), plan("beam", 2))
    assert greedy.beams[0].ids == (2, 1)
    assert wide.beams[0].ids == (3, 1) and wide.beams[0].logprobs == pytest.approx((math.log(0.4), 0.0))


def test_searches_in_step_find_what_each_finds_alone() -> None:
    plans = plan("greedy"), plan("beam", 3), plan("nucleus", seed=5)
    together = searched(GREEDY_MISSES, *plans)
    alone = [searched(GREEDY_MISSES, each)[0] for each in plans]
    assert [found.beams for found in together] == [found.beams for found in alone]


def test_the_model_is_asked_once_for_what_several_searches_want() -> None:
    asked, answers = [], table(GREEDY_MISSES)

    def count(ids: torch.Tensor) -> torch.Tensor:
        asked.append(ids.tolist())
        return answers(ids)

    beams.run([beams.Search(plan("greedy"), END), beams.Search(plan("beam", 2), END)], count, (START,), 2, Job())
    assert asked == [[[0]], [[0, 2], [0, 3]]]


def test_the_tree_tells_what_was_kept_pruned_and_won() -> None:
    rows = {(0,): [0.01, 0.04, 0.55, 0.4], (0, 2): [0.05, 0.4, 0.35, 0.2], (0, 3): [0.001, 0.99, 0.004, 0.005]}
    (wide,) = searched(rows, plan("beam", 2))
    tree = wide.tree(str)
    told = [(node.parent, node.token, node.state, node.best) for node in tree]
    assert told == [
        (-1, "2", "kept", False),
        (-1, "3", "kept", True),
        (1, "1", "ended", True),
        (0, "1", "ended", False),
        (0, "2", "pruned", False),
        (1, "3", "pruned", False),
    ]
    assert [node.step for node in tree] == [0, 0, 1, 1, 1, 1] and [node.id for node in tree] == list(range(6))
    assert tree[2].score == pytest.approx(math.log(0.4 * 0.99) / 2)


def test_only_beam_search_has_a_tree() -> None:
    assert [found.tree(str) for found in searched(GREEDY_MISSES, plan("greedy"), plan("nucleus"))] == [(), ()]


def test_search_ends_at_once_when_stopped() -> None:
    stop = Stop()
    stop.set()
    (found,) = searched({}, plan("beam"), stop=stop)
    assert found.beams == [beams.Beam()] and found.tree(str) == ()


def test_prompt_speaks_the_language_asked_for() -> None:
    assert prompt("", "zh").startswith("用一句话") and prompt(" ", "auto").startswith("Describe")
    assert prompt("what?", "zh").endswith("请用中文回答。") and prompt("what?", "auto") == "what?"


def test_reasoning_is_not_part_of_a_caption() -> None:
    assert clean("<think>hm\n</think>\n\n a  cat ") == "a cat" and clean("<think>cut off") == ""


def test_large_pictures_are_shrunk_in_proportion() -> None:
    small = shrink(serving.picture(1), max_pixels=480)
    assert small.width * small.height <= 480 and small.width / small.height == pytest.approx(1.2, abs=0.1)


def test_every_card_has_a_family_and_a_tiny_model() -> None:
    specs = [spec for spec in serving.CATALOG.models("captioning") if spec.loader == "transformers"]
    assert {spec.options["cls"] for spec in specs} <= set(FAMILIES) & set(captioning.BUILDERS)


def test_there_is_a_chinese_model_of_every_size() -> None:
    chinese = {spec.tier for spec in serving.CATALOG.models("captioning") if "zh" in spec.languages}
    assert {"laptop", "gpu", "big"} <= chinese


def test_text_is_told_as_it_becomes_whole() -> None:
    class Words:
        said = {1: "", 2: "a", 3: "a \ufffd", 4: "a 猫"}

        def decode(self, ids: torch.Tensor, **_: object) -> str:
            return self.said[len(ids)]

    told: list[str] = []
    watch = Watch(Job(emit=lambda event: told.append(getattr(event, "text", "|"))), Words(), plan())
    for length in range(1, 5):
        watch(torch.zeros(1, 3 + length), None)
    assert told == ["|", "|", "a", "|", "|", " 猫"]
