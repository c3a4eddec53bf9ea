"""The decoder of a CoCa: every way of choosing words at once, the tree of beams, where it looks, both languages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.captioners import attention, coca
from pipelines.captioners.beams import BESIDE
from pipelines.captioners.plan import DECODINGS, Neural, Plan
from pipelines.core.streaming import Event, Job, Progress, Stop, TextDelta
from pipelines.loaders.open_clip import OpenClipLoader, OpenClipModel
from tests.tiny import picto, retrieval, serving

STEPS = 8


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> OpenClipModel:
    folder = tmp_path_factory.mktemp("picto")
    picto.coca(folder)
    return OpenClipLoader().load(picto.SPEC, folder, "cpu")


def plans(*ways: str, beams: int = 4, seed: int = 3) -> list[Plan]:
    return [Plan(way, beams, 1.0, 0.9, STEPS, seed) for way in ways]


def write(loaded: OpenClipModel, *ways: str, language: str = "en", picture: int = 1, job: Job | None = None) -> Neural:
    return coca.generate(loaded, serving.picture(picture), plans(*ways), language, job or Job())


def ids(loaded: OpenClipModel, text: str) -> list[int]:
    return loaded.tokenizer.tokenizer(text)["input_ids"]


def test_the_starter_s_layout_is_read_offline(loaded: OpenClipModel) -> None:
    assert ids(loaded, "red apple")[0] == 1 and ids(loaded, "red apple")[-1] == 2
    pooled, cells = loaded.model.visual(loaded.preprocess(serving.picture(1)).unsqueeze(0))
    assert pooled.shape == (1, picto.WIDTH) and cells.shape == (1, 36, picto.WIDTH)


def test_captions_begin_with_the_mark_of_their_language(loaded: OpenClipModel) -> None:
    assert coca.words(loaded.tokenizer, "en").start == (1, 4)
    assert coca.words(loaded.tokenizer, "zh").start == (1, 5)
    english, chinese = (write(loaded, "greedy", language=language) for language in ("en", "zh"))
    assert english.best.candidates[0].logprob != chinese.best.candidates[0].logprob


def test_pieces_bring_their_space_along(loaded: OpenClipModel) -> None:
    said = coca.words(loaded.tokenizer, "en")
    read = ids(loaded, "red apple")
    assert "".join(said.piece(id) for id in read[1:-1]) == " red apple" and said.text(read) == "red apple"


def test_the_picture_is_read_once_for_all_ways(loaded: OpenClipModel) -> None:
    calls: list[int] = []
    hook = loaded.model.visual.register_forward_hook(lambda *_: calls.append(1))
    together = write(loaded, *DECODINGS)
    hook.remove()
    assert calls == [1] and [way.decoding for way in together.decoded] == list(DECODINGS)
    for way in together.decoded:
        (alone,) = write(loaded, way.decoding).decoded
        assert [c.text for c in alone.candidates] == [c.text for c in way.candidates]
        assert alone.candidates[0].logprob == pytest.approx(way.candidates[0].logprob, abs=1e-3)


def test_beam_search_gives_the_caption_where_there_are_several_ways(loaded: OpenClipModel) -> None:
    assert write(loaded, *DECODINGS).best.decoding == "beam"
    assert write(loaded, "nucleus").best.decoding == "nucleus"


def test_the_winning_path_of_the_tree_is_the_caption(loaded: OpenClipModel) -> None:
    found = write(loaded, *DECODINGS)
    winner = found.best.candidates[0]
    path = [node for node in found.tree if node.best]
    assert [node.token for node in path] == [token for token, _ in winner.tokens]
    assert sum(node.logprob for node in path) == pytest.approx(winner.logprob)
    assert path[0].parent == -1 and all(b.parent == a.id for a, b in zip(path, path[1:], strict=False))
    steps = {node.step: [n for n in found.tree if n.step == node.step] for node in found.tree}
    assert all(len(nodes) <= 4 + BESIDE for nodes in steps.values())
    assert all(node.parent < node.id for node in found.tree)


def test_every_word_has_a_map_of_where_the_decoder_looked(loaded: OpenClipModel) -> None:
    found = write(loaded, "greedy")
    marks = {"", "<pad>", "<s>", "</s>", "<unk>", "<en>", "<zh>"}
    said = [token.strip() for token, _ in found.best.candidates[0].tokens]
    assert [told.word for told in found.attention] == [word for word in said if word not in marks]
    for told in found.attention:
        assert (len(told.cells), {len(row) for row in told.cells}) == (6, {6})
        assert sum(map(sum, told.cells)) == pytest.approx(1, abs=1e-4)
    assert found.attention[0].cells != write(loaded, "greedy", picture=5).attention[0].cells


def test_a_word_s_map_does_not_depend_on_the_words_after_it(loaded: OpenClipModel) -> None:
    import torch

    cells = loaded.model(loaded.preprocess(serving.picture(1)).unsqueeze(0))["image_embs"]
    long, short = (attention.maps(loaded.model, cells, torch.tensor(row), 2) for row in ([1, 4, 9, 8, 7], [1, 4, 9, 6]))
    assert long.shape == (3, 36) and short.shape == (2, 36)
    torch.testing.assert_close(long[:2], short)


def test_looking_leaves_no_trace_in_the_model(loaded: OpenClipModel) -> None:
    write(loaded, "beam")
    watched = loaded.model.text_decoder.cross_attn[-1].attn
    assert not watched._forward_hooks and not watched._forward_pre_hooks


def test_answers_of_an_attentional_pooler_have_no_place(tmp_path: Path) -> None:
    retrieval.coca(tmp_path)
    pooling = OpenClipLoader().load(picto.SPEC, tmp_path, "cpu")
    found = write(pooling, *DECODINGS)
    assert found.attention == () and found.tree and found.best.candidates[0].tokens


def test_the_caption_is_told_as_it_grows(loaded: OpenClipModel) -> None:
    told: list[Event] = []
    found = write(loaded, "greedy", job=Job(emit=told.append))
    assert "".join(event.text for event in told if isinstance(event, TextDelta)) == found.best.candidates[0].text
    assert [event.done for event in told if isinstance(event, Progress)] == list(range(1, STEPS + 1))


def test_stop_ends_all_ways_within_a_step(loaded: OpenClipModel) -> None:
    stop = Stop()

    def emit(event: Any) -> None:
        if isinstance(event, Progress) and event.done == 2:
            stop.set()

    found = write(loaded, *DECODINGS, job=Job(stop, emit))
    assert [len(way.candidates[0].tokens) for way in found.decoded] == [2, 2, 2]
    assert {node.step for node in found.tree} == {0, 1}
