"""Retrieval beyond one model: what is refused, figures over a file, one model in two tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.captioning import Captioner
from pipelines.captioning import Params as CaptionParams
from pipelines.core.catalog import Catalog
from pipelines.core.errors import InvalidInput
from pipelines.core.params import build
from pipelines.core.registry import Registry
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Job
from pipelines.retrieval import MAX_GALLERY, Params, Retriever
from pipelines.retrievers.matching import MATCHERS
from pipelines.retrievers.towers import TOWERS
from tests.hub import LoopbackHub
from tests.tiny import retrieval, serving

PICTURES = tuple(serving.picture(seed) for seed in range(3))


def nothing_loads() -> Retriever:
    """A retriever whose registry can neither fetch nor load."""
    return Retriever(Registry(Catalog(serving.CATALOG.models()), None, None, budget=1), lease_seconds=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"gallery": PICTURES}, "no_query"),
        ({"gallery": PICTURES, "query": " "}, "no_query"),
        ({"gallery": PICTURES[:1] * (MAX_GALLERY + 1), "query": "a"}, "too_many_images"),
        ({"gallery": PICTURES, "image": PICTURES[0], "rerank": True}, "rerank_needs_text"),
        ({"gallery": PICTURES, "query": "a", "model": "qwen3-vl-reranker-2b"}, "wrong_task"),
    ],
)
def test_what_cannot_be_done_is_refused_before_loading(asked: dict, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        nothing_loads().run(build(Params, asked), Job())
    assert caught.value.code == code


def test_a_card_without_reranker_says_so() -> None:
    spec = ModelSpec("bare", "retrieval", "transformers", "hf:a/b", 1, {}, "MIT", "laptop", 1, ("en",))
    retriever = Retriever(Registry(Catalog([spec]), None, None, budget=1), lease_seconds=1)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput) as caught:
        retriever.run(build(Params, {"gallery": PICTURES, "query": "a", "rerank": True}), Job())
    assert caught.value.code == "no_reranker"


def test_every_card_has_towers_a_tiny_model_and_a_reranker_that_exists() -> None:
    for spec in serving.CATALOG.models("retrieval"):
        assert spec.options.get("cls", "open_clip") in TOWERS and serving.kind(spec) in retrieval.BUILDERS
        assert serving.CATALOG.model(spec.options["reranker"]).options["cls"] in MATCHERS


def test_there_is_a_chinese_model_of_every_size() -> None:
    chinese = {spec.tier for spec in serving.CATALOG.models("retrieval") if "zh" in spec.languages}
    assert {"laptop", "gpu", "big"} <= chinese


def test_one_coca_serves_two_tasks_from_one_copy(hub: LoopbackHub, tmp_path: Path) -> None:
    spec = serving.CATALOG.model("coca-vit-l-14")
    registry = serving.registry(hub, tmp_path, retrieval.BUILDERS, spec)
    asked = {"image": PICTURES[0], "model": spec.id, "max_new_tokens": 3}
    caption = Captioner(registry, lease_seconds=5).run(build(CaptionParams, asked), Job())
    found = Retriever(registry, lease_seconds=5).run(
        build(Params, {"gallery": PICTURES, "query": "a", "model": spec.id}), Job()
    )
    assert caption.made.cold and not found.made.cold
    assert [view.id for view in registry.status()] == [spec.id]
