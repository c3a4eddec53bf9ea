"""Captioning without a model: decoding, the figures, and what is refused before anything is loaded."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from pipelines.captioners.coca import search
from pipelines.captioners.drawing import Draw, nucleus
from pipelines.captioners.families import FAMILIES, clean, prompt
from pipelines.captioners.generation import Watch
from pipelines.captioners.metrics import bleu4, rouge_l, words
from pipelines.captioners.plan import Plan
from pipelines.captioning import Captioner, Params
from pipelines.core.errors import InvalidInput
from pipelines.core.params import build
from pipelines.core.streaming import Job, Stop
from pipelines.vision_language import shrink
from tests.hub import LoopbackHub
from tests.tiny import captioning, serving

START, END = 0, 1


def plan(decoding: str = "greedy", beams: int = 3, seed: int = 0) -> Plan:
    return Plan(decoding, beams, 1.0, 1.0, 10, seed)


def table(rows: dict[tuple[int, ...], list[float]]) -> object:
    """Next-token log-probabilities looked up by what was said so far."""
    return lambda ids: torch.tensor([rows[tuple(row)] for row in ids.tolist()]).log()


def test_nucleus_keeps_the_smallest_set_with_enough_mass() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert nucleus(logits, 0.6).isfinite().tolist() == [[True, True, False, False]]
    assert nucleus(logits, 0.01).isfinite().tolist() == [[True, False, False, False]]


def test_draws_follow_the_probabilities() -> None:
    draw, wanted = Draw(3, 1.0, 1.0), torch.tensor([0.6, 0.3, 0.1])
    drawn = draw(torch.empty(0), wanted.log().expand(20_000, 3)).argmax(-1)
    assert torch.bincount(drawn, minlength=3) / 20_000 == pytest.approx(wanted, abs=0.015)


def test_beams_find_the_caption_that_greed_misses() -> None:
    rows = {
        (0,): [0.0, 0.0, 0.6, 0.4],
        (0, 2): [0.0, 0.4, 0.3, 0.3],
        (0, 3): [0.0, 1.0, 0.0, 0.0],
        (0, 2, 2): [0.0, 1.0, 0.0, 0.0],
        (0, 2, 3): [0.0, 1.0, 0.0, 0.0],
    }
    greedy = search(table(rows), START, END, 5, plan("greedy"), Job())
    beams = search(table(rows), START, END, 5, plan("beam", 2), Job())
    assert greedy[0].ids == (0, 2, 1)
    assert beams[0].ids == (0, 3, 1) and beams[0].logprobs == pytest.approx((math.log(0.4), 0.0))


def test_search_ends_at_once_when_stopped() -> None:
    stop = Stop()
    stop.set()
    assert search(table({}), START, END, 5, plan(), Job(stop))[0].ids == (START,)


def test_bleu_of_a_known_example() -> None:
    caption = "the cat sat on the mat today"
    references = ["the cat sat on the mat", "a cat sat on a mat yesterday evening"]
    # n-grams matched: 6/7, 5/6, 4/5, 3/4; seven words against the closest reference of six or eight: the shorter
    assert bleu4([caption], [references]) == pytest.approx((6 / 7 * 5 / 6 * 4 / 5 * 3 / 4) ** 0.25)


def test_short_captions_pay_the_brevity_penalty() -> None:
    full = bleu4(["a cat on the mat"], [["a cat on the mat"]])
    short = bleu4(["a cat on the"], [["a cat on the mat"]])
    assert full == pytest.approx(1.0) and short == pytest.approx(math.exp(1 - 5 / 4))


def test_rouge_of_a_known_example() -> None:
    # common subsequence "police killed gunman": 3 of 4 words said, 3 of 4 words wanted
    assert rouge_l(["police killed the gunman"], [["police killed a gunman"]]) == pytest.approx(0.75)
    assert rouge_l([""], [["a cat"]]) == 0.0


def test_chinese_counts_by_character() -> None:
    assert bleu4(["一只猫在草地上。"], [["一只猫在草地上"]]) == pytest.approx(1.0)


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


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("not json", "row_not_json"),
        ("[]", "row_not_json"),
        ('{"image": "a.png"}', "bad_row"),
        ('{"image": "a.png", "captions": "a"}', "bad_row"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, code: str) -> None:
    (tmp_path / "rows.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        Captioner(None, lease_seconds=1).evaluate(tmp_path / "rows.jsonl", Job())  # type: ignore[arg-type]
    assert caught.value.code == code and caught.value.params["line"] == 1


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


def test_evaluation_scores_a_file_beside_its_pictures(hub: LoopbackHub, tmp_path: Path) -> None:
    spec = serving.CATALOG.model("blip-base")
    captioner = Captioner(serving.registry(hub, tmp_path, captioning.BUILDERS, spec), lease_seconds=5)
    serving.picture(2).save(tmp_path / "a.png")
    asked = {"model": spec.id, "max_new_tokens": 24}
    said = captioner.run(build(Params, {"image": serving.picture(2), **asked}), Job()).caption
    row = {"image": "a.png", "captions": ["something else entirely", said]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n\n", encoding="utf-8")
    figures = captioner.evaluate(tmp_path / "rows.jsonl", Job(), **asked)
    assert words(said) and figures["n"] == 1
    assert figures["rouge_l"] == pytest.approx(1.0) and figures["bleu4"] == pytest.approx(bleu4([said], [[said]]))
    assert figures["seconds_per_item"] > 0
