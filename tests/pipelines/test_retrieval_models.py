"""Every class a retrieval card names: served by a hub, loaded by the real loader, asked to search and to re-rank."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from pipelines.core.errors import Cancelled
from pipelines.core.params import build
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Event, Job, Progress, Stop
from pipelines.retrieval import Params, Retriever
from pipelines.retrievers.reading import BATCH
from tests.hub import LoopbackHub
from tests.tiny import retrieval, serving

SPECS = serving.one_of_each("retrieval")
GALLERY = [serving.picture(seed) for seed in range(BATCH + 2)]


@pytest.fixture(scope="module", params=SPECS, ids=lambda spec: spec.id)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    spec: ModelSpec = request.param
    judge = serving.CATALOG.model(spec.options["reranker"])
    with LoopbackHub() as hub:
        folder = tmp_path_factory.mktemp("retrieval")
        registry = serving.registry(hub, folder, retrieval.BUILDERS, *{spec.id: spec, judge.id: judge}.values())
        yield Retriever(registry, lease_seconds=5), spec


def ask(spec: ModelSpec, **more: object) -> Params:
    return build(Params, {"gallery": tuple(GALLERY), "query": "a cat 猫", "model": spec.id, **more})


def test_search_gives_hits_best_first(served: tuple) -> None:
    retriever, spec = served
    result = retriever.run(ask(spec, top_k=4), Job())
    scores = [hit.score for hit in result.hits]
    assert scores == sorted(scores, reverse=True) and len(scores) == 4
    assert len(result.similarity) == 1 and scores == pytest.approx(list(result.similarity[0]), abs=1e-5)
    assert all(math.isfinite(score) and abs(score) <= 1.001 for score in scores)
    assert result.made.model == spec.id and result.dimension > 1 and result.queries == ("text",)


def test_a_picture_finds_itself(served: tuple) -> None:
    retriever, spec = served
    result = retriever.run(ask(spec, query="", image=GALLERY[3]), Job())
    assert result.hits[0].index == 3 and result.hits[0].score == pytest.approx(1, abs=1e-3)


def test_text_and_picture_count_alike(served: tuple) -> None:
    retriever, spec = served
    result = retriever.run(ask(spec, image=GALLERY[3], top_k=10), Job())
    sums = [sum(column) for column in zip(*result.similarity, strict=True)]
    assert result.queries == ("text", "image")
    assert sums == pytest.approx(sorted(sums, reverse=True), abs=1e-5)


def test_the_single_tower_orders_the_hits_anew(served: tuple) -> None:
    retriever, spec = served
    plain, judged = (
        retriever.run(ask(spec, rerank=rerank, top_k=BATCH + 1, depth=BATCH + 1), Job()) for rerank in (False, True)
    )
    scores = [hit.rerank_score for hit in judged.hits]
    assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)
    assert {hit.index for hit in judged.hits} == {hit.index for hit in plain.hits}
    assert judged.reranker == spec.options["reranker"] and plain.reranker == ""


def test_same_question_same_answer(served: tuple) -> None:
    retriever, spec = served
    first, second = (retriever.run(ask(spec, rerank=True), Job()) for _ in range(2))
    assert first.hits == second.hits and first.similarity == second.similarity


def test_a_stop_is_seen_between_batches(served: tuple) -> None:
    retriever, spec = served
    stop, batches = Stop(), []

    def emit(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "run":
            batches.append(event.done)
            stop.set()

    with pytest.raises(Cancelled):
        retriever.run(ask(spec), Job(stop, emit))
    assert batches == [BATCH]


def test_texts_are_embedded_as_unit_vectors(served: tuple) -> None:
    retriever, spec = served
    one, other = retriever.embed(["a cat", "a dog on grass"], Job(), spec.id)
    assert sum(x * x for x in one) == pytest.approx(1, abs=1e-4) and one != other
    assert retriever.embed(["a cat"], Job(), spec.id)[0] == pytest.approx(one, abs=1e-4)


def test_labels_are_weighed_by_the_models_own_scale(served: tuple) -> None:
    retriever, spec = served
    found = retriever.classify(GALLERY[0], ["a cat", "a dog", "狗"], ["{}", "this is {}"], Job(), spec.id)
    assert sum(found.probabilities) == pytest.approx(1) and len(set(found.probabilities)) > 1
    assert all(sum(row) == pytest.approx(1) for row in found.per_template)


def test_every_pair_of_a_duel_is_judged_both_ways(served: tuple) -> None:
    retriever, spec = served
    duel = retriever.duel(["a cat", "a dog on grass"], GALLERY[:3], Job(), spec.id)
    judged = retriever.run(ask(spec, query="a cat", gallery=tuple(GALLERY[:3]), rerank=True), Job())
    assert [len(row) for row in duel.cosine] == [len(row) for row in duel.fusion] == [3, 3]
    for hit in judged.hits:
        assert hit.rerank_score == pytest.approx(duel.fusion[0][hit.index], abs=1e-3)
        assert hit.score == pytest.approx(duel.cosine[0][hit.index], abs=1e-3)
