"""Evaluation of captioners over files: which figures, of what was said by whom, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.captioners import evaluation
from pipelines.captioners.metrics import figures
from pipelines.captioners.plan import Candidate, FamilyScore, Retrieved, Template
from pipelines.captioning import Captioner, Params, Result
from pipelines.core.errors import Cancelled, InvalidInput
from pipelines.core.params import build
from pipelines.core.specs import Made
from pipelines.core.streaming import Event, Job, Progress, Stop
from tests.hub import LoopbackHub
from tests.tiny import captioning, picto, serving

MADE = Made("fake", "", (), None, "cpu", 0.5)


@dataclass
class Fake:
    """A captioner that says what it is told to; keeps what it was asked."""

    say: Callable[[Params], Result]
    asked: list[Params] = field(default_factory=list)
    hidden: list[Collection[str]] = field(default_factory=list)

    task = Captioner.task
    Params = Params
    registry = SimpleNamespace(catalog=serving.CATALOG)
    gallery = SimpleNamespace(items=[SimpleNamespace(id=f"g{n}", unseen=n > 1) for n in range(4)])

    def run(self, params: Params, job: Job, *, leave_out: Collection[str] = ()) -> Result:
        self.asked.append(params)
        self.hidden.append(leave_out)
        job.emit(Progress("run", 1, 2))
        return self.say(params)


def result(caption: str, *beams: str, **more: Any) -> Result:
    others = tuple(Candidate(text, -1.0, ()) for text in beams)
    empty = {"neural": None, "template": None, "retrieved": None, "scores": ()}
    return Result(caption, -1.0, (), others, "beam", False, MADE, **{**empty, **more})


def saying(*captions: str) -> Callable[[Params], Result]:
    lines: Iterator[str] = iter(captions)
    return lambda _: result(next(lines))


def rows(folder: Path, *records: dict[str, Any]) -> Path:
    """A file of records, whose picture is the same unless they name another."""
    serving.picture(2).save(folder / "a.png")
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"image": "a.png", **record}) + "\n" for record in records), encoding="utf-8")
    return path


def evaluate(fake: Fake, path: Path, job: Job | None = None, **options: Any) -> dict[str, float]:
    return evaluation.evaluate(fake, path, job or Job(), **options)  # type: ignore[arg-type]


def test_figures_are_those_of_the_captions_said(tmp_path: Path) -> None:
    path = rows(
        tmp_path, {"caption_en": "red cat", "caption_zh": "红猫"}, {"caption_en": "big dog"}, {"caption_en": "sun"}
    )
    fake = Fake(saying("Red  cat.", "small dog", "moon"))
    found = evaluate(fake, path)
    wanted = figures(["red cat", "small dog", "moon"], [["red cat"], ["big dog"], ["sun"]])
    assert wanted.items() <= found.items() and found["n"] == 3
    assert found["exact"] == found["exact_in_beam"] == pytest.approx(1 / 3)
    assert found["chance_exact"] == pytest.approx(1 / 3) and found["seconds_per_item"] == 0.5
    assert [(asked.language, asked.decoding, asked.family) for asked in fake.asked] == [("en", "beam", "neural")] * 3
    assert fake.asked[0].image.size == serving.picture(2).size


def test_a_name_further_down_the_beam_counts_apart(tmp_path: Path) -> None:
    fake = Fake(lambda _: result("dog", "red cat", "cat"))
    found = evaluate(fake, rows(tmp_path, {"caption_en": "Red cat"}))
    assert (found["exact"], found["exact_in_beam"]) == (0, 1)


def test_captions_in_chinese_leave_out_rows_without_one(tmp_path: Path) -> None:
    path = rows(tmp_path, {"caption_en": "sun"}, {"caption_en": "red cat", "caption_zh": "红猫"})
    fake = Fake(saying("红猫"))
    found = evaluate(fake, path, language="zh")
    assert found["n"] == found["exact"] == 1 and fake.asked[0].language == "zh"
    with pytest.raises(InvalidInput) as caught:
        evaluate(fake, rows(tmp_path, {"caption_en": "sun"}), language="zh")
    assert caught.value.code == "no_rows_in_language"


def test_the_families_side_by_side(tmp_path: Path) -> None:
    def say(params: Params) -> Result:
        template, retrieved = Template("a red cat", (), ()), Retrieved("red dog", "nearest", ())
        scores = tuple(FamilyScore(name, "", clip, None) for name, clip in (("neural", 0.5), ("retrieval", 0.25)))
        return result("red cat", template=template, retrieved=retrieved, scores=scores)

    fake = Fake(say)
    found = evaluate(fake, rows(tmp_path, {"caption_en": "red cat"}), method="all")
    assert found["neural_exact"] == 1 and found["template_exact"] == found["retrieval_exact"] == 0
    assert found["neural_bleu1"] == 1 and found["retrieval_bleu1"] == 0.5
    assert found["template_bleu1"] == pytest.approx(2 / 3)
    assert (found["neural_clip_score"], found["retrieval_clip_score"]) == (0.5, 0.25)
    assert "template_clip_score" not in found and "template_exact_in_beam" not in found
    alone = evaluate(fake, rows(tmp_path, {"caption_en": "red cat"}), method="retrieval")
    assert alone["bleu1"] == 0.5 and fake.asked[-1].family == "retrieval"


def test_the_retrieval_family_never_sees_the_picture_itself(tmp_path: Path) -> None:
    fake = Fake(lambda _: result("", retrieved=Retrieved("red dog", "nearest", ())))
    path = rows(tmp_path, {"id": "g0", "caption_en": "red cat"})
    evaluate(fake, path, method="retrieval")
    evaluate(fake, path, method="retrieval", gallery="seen")
    assert [set(ids) for ids in fake.hidden] == [{"g0"}, {"g0", "g2", "g3"}]


def test_several_references_as_before(tmp_path: Path) -> None:
    fake = Fake(saying("a small dog", "a cat"))
    path = rows(tmp_path, {"captions": ["one dog", "A small dog."]}, {"captions": ["the moon"]})
    found = evaluate(fake, path, decoding="greedy")
    assert found["exact"] == 0.5 and fake.asked[0].decoding == "greedy" and fake.asked[0].language == "auto"


def test_answers_are_scored_by_how_many_people_gave_them(tmp_path: Path) -> None:
    path = rows(tmp_path, {"question": "How many?", "answers": ["2"] * 2 + ["3"] * 8})
    fake = Fake(saying("two"))
    assert evaluate(fake, path) == {"n": 1, "vqa_accuracy": pytest.approx(0.6), "seconds_per_item": 0.5}
    assert fake.asked[0].question == "How many?" and fake.asked[0].decoding == "greedy"
    with pytest.raises(InvalidInput) as caught:
        evaluate(fake, path, method="template")
    assert caught.value.code == "not_a_choice"


def test_a_limit_takes_rows_from_the_whole_file(tmp_path: Path) -> None:
    fake = Fake(saying(*"xyz"))
    found = evaluate(fake, rows(tmp_path, *({"caption_en": name} for name in "abxdeyghz")), limit=3)
    assert found["n"] == 3 and found["exact"] == 0
    every_third = Fake(saying("a", "d", "g"))
    assert evaluate(every_third, rows(tmp_path, *({"caption_en": name} for name in "abcdefghi")), limit=3)["exact"] == 1


def test_progress_is_shown_and_a_stop_obeyed(tmp_path: Path) -> None:
    stop, seen = Stop(), []

    def emit(event: Event) -> None:
        assert isinstance(event, Progress)
        seen.append((event.stage, event.done, event.total))
        if event.done == 2:
            stop.set()

    fake = Fake(lambda _: result("a cat"))
    with pytest.raises(Cancelled):
        evaluate(fake, rows(tmp_path, *[{"caption_en": "a cat"}] * 5), Job(stop, emit))
    assert seen == [("evaluate", 1, 5), ("evaluate", 2, 5)] and len(fake.asked) == 2


def test_half_a_caption_does_not_count(tmp_path: Path) -> None:
    stop = Stop()

    def say(_: Params) -> Result:
        stop.set()
        return replace(result("a c"), stopped=True)

    with pytest.raises(Cancelled):
        evaluate(Fake(say), rows(tmp_path, {"caption_en": "a cat"}), Job(stop))


@pytest.mark.parametrize(
    ("options", "code"),
    [({"method": "magic"}, "not_a_choice"), ({"limit": -1}, "out_of_range"), ({"beams": 2}, "unknown_parameter")],
)
def test_bad_options_are_named(tmp_path: Path, options: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        evaluate(Fake(saying("a")), rows(tmp_path, {"caption_en": "a"}), **options)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("good", "record", "code"),
    [
        ({"caption_en": "a"}, {}, "bad_row"),
        ({"caption_en": "a"}, {"image": "b.png", "caption_en": "a"}, "row_without_picture"),
        ({"captions": ["a"]}, {"captions": "a"}, "bad_row"),
        ({"captions": ["a"]}, {"captions": []}, "bad_row"),
        ({"question": "what?", "answers": ["a"]}, {"question": "what?", "answers": []}, "bad_row"),
        ({"question": "what?", "answers": ["a"]}, {"question": " ", "answers": ["a"]}, "bad_row"),
        ({"question": "what?", "answers": ["a"]}, {"question": "what?", "answers": [1]}, "bad_row"),
        ({"captions": ["a"]}, {"question": "what?", "answers": ["a"]}, "bad_row"),
    ],
)
def test_a_bad_line_is_named_before_anything_is_asked(
    tmp_path: Path, good: dict[str, Any], record: dict[str, Any], code: str
) -> None:
    fake = Fake(saying("a"))
    with pytest.raises(InvalidInput) as caught:
        evaluate(fake, rows(tmp_path, good, record))
    assert (caught.value.code, caught.value.params["line"]) == (code, 2) and not fake.asked


def test_captions_are_the_same_without_case_spaces_and_full_stop() -> None:
    assert evaluation.plain(" Red  Cat. ") == evaluation.plain("red cat") != evaluation.plain("red cats")
    assert evaluation.plain("一只 猫。") == "一只猫" and evaluation.plain("keycap #") != evaluation.plain("keycap *")


def test_chance_is_to_say_another_pictures_caption() -> None:
    assert evaluation.chance([["a"], ["A"], ["b"], ["c", "a"]]) == pytest.approx((2 + 2 + 1 + 3) / 16)


def test_a_real_model_is_loaded_once(hub: LoopbackHub, tmp_path: Path) -> None:
    spec = serving.CATALOG.model("blip-base")
    captioner = Captioner(serving.registry(hub, tmp_path, captioning.BUILDERS, spec), lease_seconds=5)
    asked = {"model": spec.id, "max_new_tokens": 12, "decoding": "beam"}
    said = captioner.run(build(Params, {"image": serving.picture(2), **asked}), Job()).caption
    serving.picture(5).save(tmp_path / "b.png")
    path = rows(tmp_path, {"captions": ["something else entirely", said]}, {"image": "b.png", "captions": ["no"]})
    stages: list[str] = []
    found = captioner.evaluate(path, Job(emit=lambda event: stages.append(event.stage)), **asked)  # type: ignore[union-attr]
    assert said and found["n"] == 2 and found["exact"] == 0.5 and found["seconds_per_item"] > 0
    assert stages == ["evaluate", "evaluate"]  # it was loaded before, and neither time again


def test_the_starter_model_is_evaluated_in_all_three_families(tmp_path: Path) -> None:
    captioner = picto.captioner(tmp_path / "house")
    about = {"caption_en": "red cat", "caption_zh": "红猫"}
    path = rows(tmp_path, {"id": "noise/2", **about}, {"id": "noise/5", **about, "caption_zh": None})
    found = captioner.evaluate(path, Job(), method="all", max_new_tokens=4)
    for family in ("neural", "retrieval", "template"):
        assert found[f"{family}_clip_score"] >= 0 and 0 <= found[f"{family}_bleu1"] <= 1
    assert found["n"] == 2 and found["seconds_per_item"] > 0
    chinese = captioner.evaluate(path, Job(), language="zh", max_new_tokens=4)
    assert chinese["n"] == 1 and "clip_score" in chinese and "neural_bleu1" not in chinese
