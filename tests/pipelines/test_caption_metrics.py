"""Figures of captions and answers: against the reference programs' own, and what they mean."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from pipelines.captioners.cider import Rarity
from pipelines.captioners.meteor import match, stemmer
from pipelines.captioners.metrics import Span, clip_score, compare, figures
from pipelines.captioners.ngrams import words
from pipelines.captioners.vqa import normal, vqa_accuracy

REFERENCE = json.loads(Path(__file__).with_name("caption_metrics.json").read_text(encoding="utf-8"))  # "made" says how
CORPORA = REFERENCE["corpora"]
NAMES = ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l", "cider")
NOTHING = Rarity.of([])


@pytest.mark.parametrize("corpus", CORPORA.values(), ids=CORPORA)
def test_a_corpus_scores_as_the_reference_programs_say(corpus: dict) -> None:
    rows = corpus["rows"]
    found = figures([row["caption"] for row in rows], [row["references"] for row in rows])
    assert tuple(found) == NAMES
    assert found == pytest.approx(corpus["corpus"], abs=1e-6)


@pytest.mark.parametrize("corpus", CORPORA.values(), ids=CORPORA)
def test_each_caption_scores_as_the_reference_programs_say(corpus: dict) -> None:
    rarity = Rarity.of_references(row["references"] for row in corpus["rows"])
    for row, wanted in zip(corpus["rows"], corpus["each"], strict=True):
        found = compare(row["caption"], row["references"], rarity)
        for name in NAMES:
            ours, theirs = getattr(found, name), wanted[name]
            # pycocoevalcap smooths a BLEU of 0, the more so where there is no such n-gram at all
            assert ours == pytest.approx(theirs, abs=1e-6) or (name[:4] == "bleu" and ours == 0 and theirs <= 0.01)


def test_bleu_counts_no_word_more_often_than_a_reference() -> None:
    found = compare("the cat sat on the mat today", ["the cat sat on the mat", "a cat sat yesterday evening"], NOTHING)
    # n-grams matched: 6/7, 5/6, 4/5, 3/4; seven words against the closest reference of six
    assert found.bleu4 == pytest.approx((6 / 7 * 5 / 6 * 4 / 5 * 3 / 4) ** 0.25)
    assert compare("the the the", ["the cat"], NOTHING).bleu1 == pytest.approx(1 / 3)


def test_short_captions_pay_the_brevity_penalty() -> None:
    assert compare("a cat on the", ["a cat on the mat"], NOTHING).bleu4 == pytest.approx(math.exp(1 - 5 / 4))


def test_rouge_of_a_known_example() -> None:
    # common subsequence "police killed gunman": 3 of 4 words said, 3 of 4 words wanted
    assert compare("police killed the gunman", ["police killed a gunman"], NOTHING).rouge_l == pytest.approx(0.75)


def test_meteor_takes_stems_for_less_and_order_into_account() -> None:
    stem = stemmer()

    def meteor(said: str, wanted: str) -> float:
        return match(words(said), [words(wanted)], stem).score

    assert meteor("two dogs play", "two dogs play") == 1.0
    assert 0 < meteor("dogs", "dog") < meteor("dog", "dog")
    assert meteor("a dog bites a man", "a dog bites a man") > meteor("a man bites a dog", "a dog bites a man")


def test_meteor_of_babble_ends() -> None:
    said = ["the", "a"] * 60
    assert 0 < match(said, [said[::-1]], stemmer()).score < 1


def test_rare_words_count_more() -> None:
    rarity = Rarity.of(["a red cat", "a red dog", "a red house", "a small zebra"])
    wanted = ["a red zebra"]
    assert compare("zebra", wanted, rarity).cider > compare("red", wanted, rarity).cider > 0
    assert compare("a", wanted, rarity).cider == 0.0  # in every caption: worth nothing


def test_cider_of_a_corpus_knows_how_many_captions_have_a_word() -> None:
    once = Rarity.of_references([["a cat", "the cat"], ["a dog"]])
    assert once.worth(("cat",)) == pytest.approx(math.log(2)) and once.worth(("a",)) == 0.0
    assert once.worth(("unheard",)) == pytest.approx(math.log(2))


@pytest.mark.parametrize("said", ["", "...", "🙂"])
def test_saying_nothing_scores_nothing(said: str) -> None:
    found = compare(said, ["a cat"], Rarity.of(["a cat", "a dog"]))
    assert {getattr(found, name) for name in NAMES} == {0.0} and found.matched == ()


def test_a_reference_without_words_is_no_error() -> None:
    assert compare("a cat", ["?!"], NOTHING).bleu1 == 0.0


def test_chinese_counts_by_character_and_skips_punctuation() -> None:
    found = compare("一只猫在草地上。", ["一只猫在草地上"], Rarity.of(["一只猫在草地上", "狗"]))
    assert (found.bleu4, found.meteor, found.rouge_l, found.cider) == pytest.approx((1.0, 1.0, 1.0, 10.0))


def test_matched_words_are_places_in_the_caption_as_it_was_written() -> None:
    caption = "Look: A  RED apple, red!"
    found = compare(caption, ["a red apple", "the look of it"], NOTHING).matched
    assert [(caption[span.start : span.end], span.n) for span in found] == [("Look", 1), ("A  RED apple", 3)]
    assert compare("红色的苹果", ["苹果是红色的"], NOTHING).matched == (Span(0, 3, 3), Span(3, 5, 2))


@pytest.mark.parametrize("corpus", CORPORA.values(), ids=CORPORA)
def test_matched_words_are_those_that_bleu_counts(corpus: dict) -> None:
    for row in corpus["rows"]:
        said, references = words(row["caption"]), [words(text) for text in row["references"]]
        most = Counter({word: max(many.count(word) for many in references) for word in said})
        spans = compare(row["caption"], row["references"], NOTHING).matched
        assert sum(span.n for span in spans) == (Counter(said) & most).total()
        assert all(left.end <= right.start for left, right in zip(spans, spans[1:], strict=False))


def test_clip_score_is_never_negative() -> None:
    assert clip_score(0.3) == pytest.approx(0.75) and clip_score(-0.2) == 0.0


@pytest.mark.parametrize("case", REFERENCE["vqa"], ids=lambda case: case["answer"])
def test_answers_score_as_the_official_program_says(case: dict) -> None:
    assert vqa_accuracy(case["answer"], case["answers"]) == pytest.approx(case["accuracy"])


def test_people_s_answers_are_brought_into_the_same_form() -> None:
    assert vqa_accuracy("2", ["Two."] * 10) == 1.0
    assert normal("The dont-know,  an Apple") == "don't know apple"


def test_few_answers_must_all_agree() -> None:
    assert vqa_accuracy("yes", ["Yes"]) == 1.0
    assert vqa_accuracy("yes", ["yes", "no"]) == 0.5
    assert vqa_accuracy("maybe", ["yes", "no"]) == 0.0
