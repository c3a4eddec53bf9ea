"""Every class a captioning card names: served by a hub, loaded by the real loader, asked for a caption."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.captioners.plan import DECODINGS
from pipelines.captioning import Captioner, Params
from pipelines.core.errors import InvalidInput
from pipelines.core.params import build
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Event, Job, Progress, Stop, TextDelta
from tests.hub import LoopbackHub
from tests.tiny import captioning, retrieval, serving

BUILDERS = {**retrieval.BUILDERS, **captioning.BUILDERS}
SPECS = serving.one_of_each("captioning")
PICTURE = serving.picture(1)
TOKENS = 6


@pytest.fixture(scope="module", params=SPECS, ids=lambda spec: spec.id)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    with LoopbackHub() as hub:
        folder: Path = tmp_path_factory.mktemp("captioning")
        spec: ModelSpec = request.param
        yield Captioner(serving.registry(hub, folder, BUILDERS, spec), lease_seconds=5), spec


def ask(spec: ModelSpec, **more: object) -> Params:
    return build(Params, {"image": PICTURE, "model": spec.id, "max_new_tokens": TOKENS, "seed": 7, **more})


@pytest.mark.parametrize("decoding", ["greedy", "beam", "nucleus"])
def test_model_gives_a_caption_with_probabilities(served: tuple, decoding: str) -> None:
    captioner, spec = served
    result = captioner.run(ask(spec, decoding=decoding, num_beams=3), Job())
    assert isinstance(result.caption, str) and result.made.model == spec.id and not result.stopped
    assert 1 <= len(result.tokens) <= TOKENS
    assert all(math.isfinite(logprob) and logprob <= 0 for _, logprob in result.tokens)
    assert result.logprob == pytest.approx(sum(logprob for _, logprob in result.tokens))
    assert len(result.alternatives) == (2 if decoding == "beam" else 0)


def test_same_seed_same_caption_and_another_seed_another(served: tuple) -> None:
    captioner, spec = served
    runs = [captioner.run(ask(spec, decoding="nucleus", seed=seed, top_p=1.0), Job()) for seed in (7, 7, 8)]
    assert runs[0].tokens == runs[1].tokens != runs[2].tokens
    assert runs[0].made.seed == 7


def test_the_picture_matters(served: tuple) -> None:
    captioner, spec = served
    results = [captioner.run(ask(spec, image=serving.picture(seed)), Job()) for seed in (1, 5)]
    assert results[0].tokens != results[1].tokens


def test_all_ways_of_choosing_words_come_side_by_side(served: tuple) -> None:
    captioner, spec = served
    told: list[Event] = []
    found = captioner.run(ask(spec, decoding="all", num_beams=3), Job(emit=told.append))
    assert found.neural is not None and [way.decoding for way in found.neural.decoded] == list(DECODINGS)
    assert [len(way.candidates) for way in found.neural.decoded] == [1, 3, 1]
    assert (found.caption, found.tokens) == (
        found.neural.best.candidates[0].text,
        found.neural.best.candidates[0].tokens,
    )
    greedy, beam = (captioner.run(ask(spec, decoding=way, num_beams=3), Job()) for way in ("greedy", "beam"))
    assert (found.neural.decoded[0].candidates[0].text, found.caption) == (greedy.caption, beam.caption)
    text = "".join(event.text for event in told if isinstance(event, TextDelta))
    assert greedy.caption.startswith(text.strip())  # the other ways' words are not mixed in


def test_only_a_model_of_ours_shows_where_it_looked(served: tuple) -> None:
    captioner, spec = served
    neural = captioner.run(ask(spec, decoding="beam"), Job()).neural
    assert bool(neural.tree) == (spec.loader == "open_clip") and bool(neural.attention) == (spec.id == "picto-coca")


@pytest.mark.parametrize("decoding", ["greedy", "beam", "nucleus"])
def test_stop_ends_generation_within_a_step(served: tuple, decoding: str) -> None:
    captioner, spec = served
    stop, steps = Stop(), []

    def emit(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "run":
            steps.append(event.done)
            if event.done == 2:
                stop.set()

    captioner.run(ask(spec), Job())  # loaded: what follows is generation alone
    result = captioner.run(ask(spec, decoding=decoding, max_new_tokens=40, top_p=1.0), Job(stop, emit))
    assert result.stopped and steps == [1, 2] and len(result.tokens) <= 2


def test_only_models_that_answer_take_a_question(served: tuple) -> None:
    captioner, spec = served
    params = ask(spec, question="what is it? <|im_end|> <|image_pad|>")
    if "multi" in spec.languages:
        assert captioner.run(params, Job()).tokens != captioner.run(ask(spec), Job()).tokens
    else:
        with pytest.raises(InvalidInput) as caught:
            captioner.run(params, Job())
        assert caught.value.code == "question_not_supported"


def test_only_models_that_speak_chinese_take_chinese(served: tuple) -> None:
    captioner, spec = served
    params = ask(spec, language="zh")
    if "zh" in spec.languages:
        assert captioner.run(params, Job()).tokens != captioner.run(ask(spec, language="en"), Job()).tokens
    else:
        with pytest.raises(InvalidInput) as caught:
            captioner.run(params, Job())
        assert caught.value.code == "language_not_supported"
