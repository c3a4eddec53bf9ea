"""The recipe of picto-coca in small: what may be learnt from, what a text becomes, and that what it ships loads."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from pipelines.core.specs import ModelSpec
from pipelines.loaders.open_clip import OpenClipLoader
from training.picto import batches, measure, model, records, tokenizer
from training.picto.alt_text import alt_text

STYLES = ("noto", "twemoji", "fluent-flat", "openmoji")
TEXTS = ("red apple", "grinning face", "flag of Japan", "红苹果", "咧嘴笑的脸", "日本国旗") * 4


def record(concept: str, style: str, licence: str = "MIT", **more: object) -> records.Record:
    base = {"concept": concept, "style": style, "licence": licence, "caption_en": concept, "caption_zh": "苹果"}
    return {**base, "keywords_en": ["fruit", "red"], "keywords_zh": ["水果"], "category": "food-drink", **more}


@pytest.fixture(scope="module")
def pieces() -> PreTrainedTokenizerFast:
    return tokenizer.train(TEXTS, 200)


def test_share_alike_pictures_are_never_learnt_from() -> None:
    found = [record("apple", style, "CC-BY-SA-4.0" if style == "openmoji" else "MIT") for style in STYLES]
    found.append(record("dog", "stamp-photo", "GPL-2.0-or-later"))
    assert [each["style"] for each in records.permissive(found)] == list(STYLES[:3])


def test_a_style_kept_aside_is_not_learnt_and_its_concept_is() -> None:
    found = [record(f"concept {number}", style) for number in range(400) for style in STYLES]
    learnt, aside = records.split_styles(found)
    assert len(learnt) + len(aside) == len(found)
    assert 0.05 < len(aside) / 400 < 0.15
    known = {(each["concept"], each["style"]) for each in learnt}
    assert all((each["concept"], each["style"]) not in known for each in aside)
    assert {each["concept"] for each in aside} <= {concept for concept, _ in known}
    assert (learnt, aside) == records.split_styles(found)


def test_concepts_of_few_styles_are_learnt_whole() -> None:
    found = [record(f"concept {number}", style) for number in range(200) for style in STYLES[:2]]
    assert records.split_styles(found) == (found, [])


def test_every_chinese_character_is_a_piece(pieces: PreTrainedTokenizerFast) -> None:
    assert [piece for piece in pieces.tokenize("红苹果") if piece != "▁"] == ["红", "苹", "果"]


def test_text_comes_back_case_folded(pieces: PreTrainedTokenizerFast) -> None:
    for text in ("flag of Japan", "红苹果", "red  apple"):
        ids = pieces(text)["input_ids"]
        assert (ids[0], ids[-1]) == (tokenizer.START, tokenizer.END)
        assert pieces.decode(ids, skip_special_tokens=True) == " ".join(text.lower().split())


def test_the_mark_follows_the_start(pieces: PreTrainedTokenizerFast) -> None:
    rows = batches.ids(pieces, ["red apple", "红苹果"], ["en", "zh"])
    assert rows[:, :2].tolist() == [[tokenizer.START, tokenizer.ENGLISH], [tokenizer.START, tokenizer.CHINESE]]
    longer = batches.ids(pieces, ["red apple " * 40], ["en"])
    assert longer.shape[1] == tokenizer.CONTEXT


def test_pooled_texts_are_all_padded_alike(pieces: PreTrainedTokenizerFast) -> None:
    """As open_clip pads them: the text tower pools at the place after the padding."""
    for texts in (["red apple"], ["红苹果", "red apple " * 40]):
        assert batches.ids(pieces, texts).shape[1] == tokenizer.CONTEXT


def test_pictures_change_and_stay_in_range() -> None:
    torch.manual_seed(0)
    random.seed(0)
    pictures = np.full((6, 128, 128, 3), 255, np.uint8)
    pictures[:, 40:90, 40:90] = (200, 30, 30)
    drawn = batches.augment(pictures, torch.ones(6, dtype=torch.bool), 64)
    assert drawn.shape == (6, 3, 64, 64)
    assert drawn.min() >= -1 and drawn.max() <= 1
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(batches.plain(pictures, 64)[0], batches.plain(pictures, 64)[1])


def test_what_has_a_direction_is_not_mirrored() -> None:
    assert batches.may_mirror(record("red apple", "noto"))
    assert not batches.may_mirror(record("left arrow", "noto"))
    assert not batches.may_mirror(record("flag of Japan", "noto", category="flags"))


def test_a_query_is_made_of_the_records_own_words() -> None:
    random.seed(0)
    asked = {batches.query(record("apple", "noto"), "en") for _ in range(200)}
    assert "apple" in asked and {"fruit", "red"} & asked
    phrases = [phrase.replace("{}", "") for phrase in batches.PHRASES]
    for text in asked:
        bare = min((text.replace(phrase, "") for phrase in phrases), key=len)
        assert set(bare.replace(" symbol", "").split(", ")) <= {"apple", "fruit", "red"}, text
    named = {batches.query(record("tap", "noto"), "en", ["faucet"]) for _ in range(200)}
    assert any("faucet" in text for text in named)
    assert batches.query(record("apple", "noto", caption_zh=None, keywords_en=[]), "zh") == "apple"


def test_alt_text_says_the_kind_of_picture() -> None:
    assert alt_text(record("red apple", "fluent-3d"), "en") == "3d render of red apple"
    assert alt_text(record("apple", "clipart"), "zh") == "苹果的剪贴画"


def test_what_is_shipped_is_loaded_by_open_clip(pieces: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    torch.manual_seed(0)
    coca = model.build(len(pieces)).eval()
    model.ship(coca, pieces, tmp_path)
    spec = ModelSpec(
        id="picto", task="captioning", loader="open_clip", source=f"dir:{tmp_path}", size_mb=40,
        license="MIT", tier="starter", title={"en": "Picto", "zh": "图画"}, parameters_m=15, languages=("en", "zh"),
    )  # fmt: skip
    loaded = OpenClipLoader().load(spec, tmp_path, "cpu")
    pixels = batches.plain(np.random.default_rng(0).integers(0, 255, (2, 128, 128, 3), np.uint8), model.SIDE)
    pooled, cells = loaded.model.visual(pixels)
    assert pooled.shape == (2, model.WIDTH) and cells.shape == (2, 36, model.WIDTH)
    assert torch.allclose(loaded.model.encode_image(pixels), coca.encode_image(pixels), atol=2e-2)  # float16 on disk
    assert torch.equal(loaded.tokenizer(["red apple", "红苹果"]), batches.ids(pieces, ["red apple", "红苹果"]))
    assert sum(weight.numel() for weight in coca.parameters()) < 20e6


def test_recall_counts_a_caption_as_found_in_any_of_its_pictures(pieces: PreTrainedTokenizerFast) -> None:
    class Known(torch.nn.Module):
        """Pictures and texts on the axis of their concept."""

        def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.eye(3)[[0, 0, 1]]

        def encode_text(self, ids: torch.Tensor) -> torch.Tensor:
            return torch.eye(3)[: len(ids)]

    found = [record("apple", "noto"), record("apple", "twemoji"), record("bear", "noto", caption_zh="熊")]
    figures = measure.recalls(Known(), pieces, found, np.zeros((3, 128, 128, 3), np.uint8), 64)  # type: ignore[arg-type]
    assert figures["en_t2p@1"] == figures["en_p2t@1"] == 1.0
    assert figures["zh_t2p@1"] < 1.0  # 熊 sorts before 苹果: the axes are the wrong way round
