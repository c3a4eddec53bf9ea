"""The transformers loader on a tiny random Llama: load, measure, free, and what a wrong card or folder gets."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.core.errors import ModelLoadFailed
from pipelines.core.specs import ModelSpec
from pipelines.loaders.transformers import TransformersLoader
from tests.tiny.reasoning import llama


def card(**options: Any) -> ModelSpec:
    return ModelSpec(
        id="tiny", task="reasoning", loader="transformers", source="dir:tiny", size_mb=1, title={}, license="x",
        tier="starter", parameters_m=1, languages=("en",),
        options={"cls": "LlamaForCausalLM", "processor": "AutoTokenizer", **options},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base: Path = tmp_path_factory.mktemp("tiny")
    llama(base)
    return base


def test_it_loads_in_eval_mode_with_its_processor(folder: Path) -> None:
    loaded = TransformersLoader().load(card(), folder, "cpu")
    assert (type(loaded.model).__name__, loaded.model.training, loaded.folder) == ("LlamaForCausalLM", False, folder)
    assert loaded.model.dtype == torch.float32
    assert loaded.processor.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)


def test_a_card_may_ask_for_no_processor_and_another_number_format(folder: Path) -> None:
    loaded = TransformersLoader().load(card(processor="", dtype="bfloat16"), folder, "cpu")
    assert (loaded.processor, loaded.model.dtype) == (None, torch.bfloat16)


def test_shared_weights_are_measured_once(folder: Path) -> None:
    loader = TransformersLoader()
    loaded = loader.load(card(), folder, "cpu")
    before = loader.measure(loaded)
    own = {p.data_ptr(): p.nbytes for p in (*loaded.model.parameters(), *loaded.model.buffers())}
    assert before == sum(own.values())
    loaded.model.lm_head.weight = loaded.model.model.embed_tokens.weight
    assert loader.measure(loaded) == before - loaded.model.lm_head.weight.nbytes


def test_freeing_empties_the_network_even_if_somebody_still_holds_it(folder: Path) -> None:
    loader = TransformersLoader()
    loaded = loader.load(card(), folder, "cpu")
    gone, held = weakref.ref(loaded.model), loaded.model.lm_head
    loader.free(loaded)
    assert (gone(), loaded.model, held.weight.nbytes) == (None, None, 0)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"cls": "NoSuchModel"}, "unknown_class"),
        ({"cls": ""}, "unknown_class"),
        ({"cls": "logging"}, "unknown_class"),
        ({"processor": "os"}, "unknown_class"),
        ({"dtype": "int3"}, "unknown_dtype"),
    ],
)
def test_a_wrong_card_is_named(folder: Path, options: dict[str, str], code: str) -> None:
    with pytest.raises(ModelLoadFailed) as error:
        TransformersLoader().load(card(**options), folder, "cpu")
    assert error.value.code == code


def test_pickled_weights_are_not_loaded(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "generation_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    torch.save(TransformersLoader().load(card(), folder, "cpu").model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        TransformersLoader().load(card(processor=""), tmp_path, "cpu")
