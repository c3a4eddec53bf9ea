"""Retrieval over a gallery with captions: every direction, the joint reader of a CoCa, figures, the map."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines import house
from pipelines.core.catalog import Catalog
from pipelines.core.errors import Cancelled, InvalidInput
from pipelines.core.params import build
from pipelines.core.registry import Registry
from pipelines.core.settings import Settings
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Done, Event, Job, Progress, Stop
from pipelines.loaders.sources import Sources
from pipelines.retrieval import Params, Result, Retriever
from pipelines.retrievers.collections import Collections
from tests.hub import LoopbackHub
from tests.tiny import picto, retrieval, serving
from tests.tiny.gallery import CAPTIONS, gallery

COUNT = 12
TITLE = {"en": "tiny", "zh": "小"}


def fusion_head(folder: Path, width: int) -> None:
    """A joint reader for features of that width, with random weights."""
    from safetensors.torch import save_file

    from pipelines.nets.fusion import FusionHead
    from tests.tiny.vision_language import randomize

    network = {"width": width, "heads": 2, "layers": 1}
    folder.mkdir(parents=True)
    head = FusionHead(**network)
    randomize(head)
    save_file(head.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"network": network}), encoding="utf-8")


@pytest.fixture(scope="module", params=[(retrieval.coca, 4), (picto.coca, picto.WIDTH)], ids=["coca", "picto"])
def retriever(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retriever]:
    """A tiny CoCa, of open_clip's own design or the starter model's, and its joint reader over a gallery of noise."""
    build_coca, width = request.param
    folder = tmp_path_factory.mktemp("gallery")
    base = ModelSpec("tiny-coca", "retrieval", "open_clip", "hf:tiny/coca", 1, TITLE, "MIT", "starter", 1, ("en", "zh"))
    base = replace(base, options={"reranker": "tiny-fusion"})
    head = replace(base, id="tiny-fusion", loader="torch", source="dir:fusion", part=True)
    head = replace(head, options={"cls": "pipelines.nets.fusion:FusionHead"})
    build_coca(folder / "coca")
    fusion_head(folder / "fusion", width)
    with LoopbackHub() as hub:
        hub.add("tiny/coca", folder / "coca")
        settings = Settings(root=folder, cache=folder / "cache", hub_endpoint=hub.url)
        registry = Registry(Catalog([base, head]), house.loader, Sources(settings).fetch, budget=2**40)
        own = Collections(folder / "collections", host="host")
        yield Retriever(registry, lease_seconds=5, gallery=gallery(folder / "pictures", COUNT), collections=own)


def ask(retriever: Retriever, **asked: object) -> Result:
    return retriever.run(build(Params, asked), Job())


def test_words_find_pictures(retriever: Retriever) -> None:
    found = ask(retriever, query="red cat", top_k=5)
    assert len(found.hits) == 5 and [hit.rank_before for hit in found.hits] == [1, 2, 3, 4, 5]
    assert all(hit.id == f"noise/{hit.index}" and hit.caption == CAPTIONS[hit.index % 5][0] for hit in found.hits)
    assert [hit.score for hit in found.hits] == pytest.approx(list(found.similarity[0]))
    assert (found.timing.backend, found.timing.vectors) == ("exact", COUNT)
    assert found.cutoff.kept == sum(hit.kept for hit in found.hits)


def test_a_picture_finds_captions_each_once_and_with_the_picture_that_bears_it(retriever: Retriever) -> None:
    english = ask(retriever, image=serving.picture(3), wanted="captions", top_k=50)
    chinese = ask(retriever, image=serving.picture(3), wanted="captions", language="zh", top_k=50)
    assert sorted(hit.caption for hit in english.hits) == ["blue boat", "dog", "green tree", "red cat"]
    assert sorted(hit.caption for hit in chinese.hits) == sorted({"红猫", "狗", "蓝船"})
    assert {hit.caption: hit.index for hit in chinese.hits} == {"红猫": 0, "狗": 1, "蓝船": 4}


def test_a_chinese_query_is_answered_in_chinese_where_there_is_any(retriever: Retriever) -> None:
    captions = {hit.index: hit.caption for hit in ask(retriever, query="红色的猫", top_k=COUNT).hits}
    assert captions[0] == "红猫" and captions[3] == "green tree"


def test_a_picture_finds_itself_and_all_the_weight_on_it_changes_nothing(retriever: Retriever) -> None:
    alone = ask(retriever, image=serving.picture(7))
    with_text = ask(retriever, image=serving.picture(7), query="dog", weight=0.0)
    assert alone.hits[0].index == 7 and alone.hits[0].score == pytest.approx(1, abs=1e-3)
    assert [hit.index for hit in alone.hits] == [hit.index for hit in with_text.hits]
    assert with_text.queries == ("text", "image") and len(with_text.similarity) == 2


def test_negative_words_take_away_and_never_give(retriever: Retriever) -> None:
    plain = {hit.index: hit for hit in ask(retriever, query="dog", top_k=COUNT).hits}
    without = ask(retriever, query="dog", without="tree, 猫", top_k=COUNT)
    taken = {hit.index: plain[hit.index].score - hit.score for hit in without.hits}
    assert without.queries == ("text", "without: tree", "without: 猫") and len(without.similarity) == 3
    assert min(taken.values()) >= -1e-6 and max(taken.values()) > 0


def test_no_cutoff_keeps_everything(retriever: Retriever) -> None:
    found = ask(retriever, query="dog", cutoff="none")
    assert all(hit.kept for hit in found.hits) and found.cutoff.reason == "none"


def test_the_joint_reader_orders_the_best_and_leaves_the_rest(retriever: Retriever) -> None:
    found = ask(retriever, query="red cat", rerank=True, depth=4, top_k=COUNT)
    judged, rest = found.hits[:4], found.hits[4:]
    assert {hit.rank_before for hit in judged} == {1, 2, 3, 4}
    assert [hit.rerank_score for hit in judged] == sorted((hit.rerank_score for hit in judged), reverse=True)
    assert all(hit.rerank_score is None for hit in rest) and [hit.rank_before for hit in rest] == [*range(5, COUNT + 1)]
    assert found.reranker == "tiny-fusion" and found.timing.rerank_ms_per_pair > 0


def test_captions_are_reranked_for_a_picture(retriever: Retriever) -> None:
    found = ask(retriever, image=serving.picture(2), wanted="captions", rerank=True)
    assert all(0 <= hit.rerank_score <= 1 for hit in found.hits)


def test_a_duel_judges_every_pair_as_the_search_does(retriever: Retriever) -> None:
    texts = ["red cat", "a much longer text about a dog 狗"]
    duel = retriever.duel(texts, [serving.picture(number) for number in range(COUNT)], Job())
    assert np.shape(duel.cosine) == np.shape(duel.fusion) == (2, COUNT)
    for row, text in enumerate(texts):
        for hit in ask(retriever, query=text, rerank=True, top_k=COUNT).hits:
            assert hit.score == pytest.approx(duel.cosine[row][hit.index], abs=1e-3)
            assert hit.rerank_score == pytest.approx(duel.fusion[row][hit.index], abs=1e-3)
    assert duel.cosine_ms > 0 and duel.fusion_ms > 0 and duel.reranker == "tiny-fusion"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"image": serving.picture(0), "gallery": (serving.picture(1),), "wanted": "captions"}, "no_captions_here"),
        ({"query": "a", "wanted": "captions", "rerank": True}, "rerank_needs_image"),
        ({"image": serving.picture(0), "rerank": True}, "rerank_needs_text"),
    ],
)
def test_what_makes_no_sense_is_refused(retriever: Retriever, asked: dict, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        ask(retriever, **asked)
    assert caught.value.code == code


def test_a_duel_needs_both_sides(retriever: Retriever) -> None:
    for texts, pictures in (([" "], [serving.picture(0)]), (["a"], [])):
        with pytest.raises(InvalidInput, match="empty"):
            retriever.duel(texts, pictures, Job())


def test_ones_own_labels_get_probabilities(retriever: Retriever) -> None:
    found = retriever.classify(serving.picture(1), ["cat", "dog", "树"], ["{}", "a drawing of {}"], Job())
    assert sum(found.probabilities) == pytest.approx(1) and np.shape(found.per_template) == (2, 3)
    assert found.labels == ("cat", "dog", "树") and found.made.model == "tiny-coca"
    again = retriever.classify(serving.picture(1), ["cat", "dog", "树"], ["a drawing of {}"], Job())
    assert again.probabilities == pytest.approx(found.per_template[1], abs=1e-5)


def test_the_map_shows_both_kinds_and_their_gap(retriever: Retriever) -> None:
    found = retriever.map("shipped", Job())
    kinds = [point.kind for point in found.points]
    assert kinds.count("picture") == COUNT and kinds.count("caption") == 4
    assert found.gap > 0 and 0 < found.explained <= 1


def test_the_gallerys_own_pairs_are_counted_both_ways(retriever: Retriever) -> None:
    every = retriever.recalls(Job())
    unseen = retriever.recalls(Job(), unseen=True, rerank=True)
    assert (every.text_to_picture.queries, every.text_to_picture.candidates) == (4, COUNT)
    assert (every.picture_to_text.queries, every.picture_to_text.candidates) == (COUNT, 4)
    assert every.reranked_text_to_picture is None and every.picture_to_text.chance["r@1"] == pytest.approx(1 / 4)
    assert (unseen.text_to_picture.candidates, unseen.picture_to_text.queries) == (COUNT, COUNT - 6)
    assert unseen.reranked_picture_to_text.r5 == 1.0 and unseen.ms_per_pair > 0


def test_a_text_query_on_stored_vectors_reads_no_picture(retriever: Retriever, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.retrievers import reading

    ask(retriever, query="warm")
    monkeypatch.setattr(retriever.gallery, "data", lambda index: pytest.fail("a picture was opened"))
    monkeypatch.setattr(reading, "pictures", lambda *_: pytest.fail("the picture tower was asked"))
    assert ask(retriever, query="red cat").hits


def test_a_stop_ends_the_re_ranking(retriever: Retriever) -> None:
    stop, stages = Stop(), []

    def emit(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "rerank":
            stages.append(event.done)
            stop.set()

    pictures = [serving.picture(number) for number in range(40)]
    with pytest.raises(Cancelled):
        retriever.duel(["a", "b"], pictures, Job(stop, emit))
    assert stages == [64]


# -- one's own pictures ----------------------------------------------------------------------------


def job_of(visitor: str) -> Job:
    job = Job()
    job.visitor = visitor
    return job


@pytest.fixture(scope="module")
def own(retriever: Retriever, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a collection of ann's with three pictures; a file that is none was turned away."""
    folder = tmp_path_factory.mktemp("mine")
    files = [folder / f"{number}.png" for number in range(3)]
    for number, file in enumerate(files):
        serving.picture(number).save(file)
    (folder / "notes.png").write_text("no picture", encoding="utf-8")
    report = retriever.add("mine", [*files, folder / "notes.png"], job_of("ann"))
    assert report.added == 3 and [broken.name for broken in report.broken] == ["notes.png"]
    return "mine"


def test_ones_own_pictures_are_found_and_judged(retriever: Retriever, own: str) -> None:
    asked = build(Params, {"collection": own, "image": serving.picture(2), "query": "red cat", "rerank": True})
    found = retriever.run(asked, job_of("ann"))
    alone = retriever.run(build(Params, {"collection": own, "image": serving.picture(2)}), job_of("ann"))
    without = retriever.run(build(Params, {"collection": own, "query": "a", "without": "b"}), job_of("ann"))
    assert alone.hits[0].caption == "2.png" and alone.hits[0].id == str(alone.hits[0].index)
    assert alone.hits[0].score == pytest.approx(1, abs=1e-3) and alone.timing.vectors == 3
    assert len(found.hits) == len(without.hits) == 3 and np.shape(found.similarity) == (2, 3)
    assert all(hit.rerank_score is not None for hit in found.hits)


def test_they_are_nobody_elses(retriever: Retriever, own: str) -> None:
    for visitor in ("bob", "local"):
        with pytest.raises(InvalidInput) as caught:
            retriever.run(build(Params, {"collection": own, "query": "a"}), job_of(visitor))
        assert caught.value.code == "unknown_collection"


def test_they_can_be_put_on_a_map(retriever: Retriever, own: str) -> None:
    found = retriever.map(own, job_of("ann"))
    assert [point.kind for point in found.points] == ["picture"] * 3 and found.gap == 0


def test_the_house_says_whose_a_job_is(retriever: Retriever) -> None:
    catalog = retriever.registry.catalog
    served = house.House(Settings(root=Path(), cache=Path()), catalog=catalog, registry=retriever.registry)
    with served.start("retrieval", lambda: lambda job: job.visitor, "ann") as events:
        assert [event.result for event in events if isinstance(event, Done)] == ["ann"]


# -- evaluation ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    lines = []
    for number in range(7):
        serving.picture(number).save(folder / f"{number}.png")
        en, zh = CAPTIONS[number % 5]
        lines.append(json.dumps({"image": f"{number}.png", "caption_en": en, "caption_zh": zh}))
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "rows.jsonl"


def test_a_file_is_evaluated_both_ways_by_both_methods(retriever: Retriever, rows: Path) -> None:
    found = retriever.evaluate(rows, Job(), method="both")
    assert (found["n"], found["n_texts"], found["n_captioned"]) == (7, 4, 7)
    assert found["t2p_r@10"] == found["fusion_t2p_r@10"] == found["p2t_r@5"] == 1.0
    assert found["chance_p2t_r@1"] == pytest.approx(1 / 4)
    # "red cat" is right for three of the seven pictures, "dog" for two, the others for one each
    assert found["chance_t2p_r@1"] == pytest.approx((3 / 7 + 2 / 7 + 1 / 7 + 1 / 7) / 4)
    assert found["fusion_ms_per_pair"] > 0 and found["seconds_per_item"] > 0


def test_methods_languages_and_limits_of_an_evaluation(retriever: Retriever, rows: Path) -> None:
    chinese = retriever.evaluate(rows, Job(), language="zh")
    judged = retriever.evaluate(rows, Job(), method="fusion", limit=3)
    assert (chinese["n"], chinese["n_texts"], chinese["n_captioned"]) == (7, 3, 6)
    assert not [name for name in chinese if "fusion" in name]
    assert judged["n"] == 3 and "t2p_r@1" not in judged and "fusion_p2t_mrr" in judged


def test_an_evaluation_refuses_what_it_cannot_do(retriever: Retriever, rows: Path, tmp_path: Path) -> None:
    rows.with_name("english.jsonl").write_text('{"image": "0.png", "caption_en": "cat"}', encoding="utf-8")
    (tmp_path / "bad.jsonl").write_text('{"image": "gone.png", "caption_en": "cat"}', encoding="utf-8")
    for path, options, code in (
        (rows, {"method": "guess"}, "not_a_choice"),
        (rows.with_name("english.jsonl"), {"language": "zh"}, "no_captions_here"),
        (tmp_path / "bad.jsonl", {}, "row_without_picture"),
    ):
        with pytest.raises(InvalidInput) as caught:
            retriever.evaluate(path, Job(), **options)
        assert caught.value.code == code
