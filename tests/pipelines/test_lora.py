"""The adapter bank against PEFT itself, on a tiny random Llama."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from pipelines.core.specs import AdapterSpec, AdapterUse
from pipelines.loaders.lora import HOW, LoraBank
from tests.tiny.adapters import lora_for, peft_lora
from tests.tiny.reasoning import llama

IDS = torch.arange(3, 13)[None]


def spec(id: str = "a") -> AdapterSpec:
    return AdapterSpec(id=id, base="b", source="dir:a", title={}, license="x", size_mb=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base: Path = tmp_path_factory.mktemp("base")
    llama(base)
    return base


@pytest.fixture
def network(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@torch.inference_mode()
def logits(network: nn.Module) -> torch.Tensor:
    return network(IDS).logits  # type: ignore[no-any-return]


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank stabilised": {"use_rslora": True, "r": 8},
    "ranks and alphas by layer": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.k_proj": 1}},
    "one block": {"layers_to_transform": [1]},
    "one block of a named list": {"layers_to_transform": 0, "layers_pattern": "layers"},
    "without some": {"exclude_modules": ["layers.0.mlp.up_proj"]},
}


@pytest.mark.parametrize("case", SETTINGS)
def test_an_active_adapter_gives_what_peft_gives(network: Any, folder: Path, tmp_path: Path, case: str) -> None:
    wrapped = peft_lora(AutoModelForCausalLM.from_pretrained(folder), tmp_path, **SETTINGS[case])
    bank = LoraBank(network)
    assert bank.attach(spec(), tmp_path).how == HOW
    bank.activate((AdapterUse("a"),))
    assert torch.allclose(logits(network), logits(wrapped), atol=1e-4)


def test_several_act_together_at_their_weights(network: Any, folder: Path, tmp_path: Path) -> None:
    merged, bank = AutoModelForCausalLM.from_pretrained(folder).eval(), LoraBank(network)
    weights = {"a": -2.0, "b": 0.75, "c": 2.0}
    for seed, (id, weight) in enumerate(weights.items()):
        path = lora_for(folder, tmp_path / id, seed=seed, r=2 + seed, lora_alpha=4)
        bank.attach(spec(id), path)
        state = load_file(path / "adapter_model.safetensors")
        for name in (name for name in state if "lora_A" in name):
            layer = merged.get_submodule(name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"))
            layer.weight.data += weight * 4 / (2 + seed) * state[name.replace("lora_A", "lora_B")] @ state[name]
    bank.activate(tuple(AdapterUse(id, weight) for id, weight in weights.items()))
    assert torch.allclose(logits(network), logits(merged), rtol=1e-4, atol=1e-3)


def test_what_does_not_act_changes_nothing_at_all(network: Any, folder: Path, tmp_path: Path) -> None:
    before, bank = logits(network), LoraBank(network)
    bank.attach(spec(), lora_for(folder, tmp_path))
    assert torch.equal(logits(network), before)
    bank.activate((AdapterUse("a", 0.0),))
    assert torch.equal(logits(network), before)
    bank.activate((AdapterUse("a"),))
    assert not torch.equal(logits(network), before)
    bank.detach("a")
    assert torch.equal(logits(network), before)
    assert not any(module._forward_hooks for module in network.modules())


def test_switching_leaves_nothing_of_the_one_before(network: Any, folder: Path, tmp_path: Path) -> None:
    bank = LoraBank(network)
    alone = {}
    for seed, id in enumerate("ab"):
        bank.attach(spec(id), lora_for(folder, tmp_path / id, seed=seed))
        bank.activate((AdapterUse(id),))
        alone[id] = logits(network)
    for id in "abba":
        bank.activate((AdapterUse(id),))
        assert torch.equal(logits(network), alone[id])


def test_thirty_two_residents_cost_no_more_than_their_files(network: Any, folder: Path, tmp_path: Path) -> None:
    path, bank = lora_for(folder, tmp_path), LoraBank(network)
    file = (path / "adapter_model.safetensors").stat().st_size
    sizes = [bank.attach(spec(f"a{i}"), path).size for i in range(32)]
    assert sum(sizes) <= 32 * file


def test_half_precision_files_stay_half_and_act_on_a_float32_base(network: Any, folder: Path, tmp_path: Path) -> None:
    path, bank = lora_for(folder, tmp_path), LoraBank(network)
    full = bank.attach(spec("full"), path).size
    state = {name: tensor.bfloat16() for name, tensor in load_file(path / "adapter_model.safetensors").items()}
    save_file(state, path / "adapter_model.safetensors")
    assert bank.attach(spec("half"), path).size == full // 2
    bank.activate((AdapterUse("full"),))
    expected = logits(network)
    bank.activate((AdapterUse("half"),))
    assert torch.nn.functional.cosine_similarity(logits(network), expected, dim=-1).min() > 0.99


def test_transposed_linear_layers_of_gpt2_take_adapters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=50, n_positions=32)
    network, twin = GPT2LMHeadModel(config).eval(), GPT2LMHeadModel(config).eval()
    twin.load_state_dict(network.state_dict())
    wrapped = peft_lora(twin, tmp_path, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)
    bank = LoraBank(network)
    bank.attach(spec(), tmp_path)
    bank.activate((AdapterUse("a"),))
    assert torch.allclose(logits(network), logits(wrapped), atol=1e-4)


def test_convolutions_take_adapters(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    twin = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    twin.load_state_dict(network.state_dict())
    wrapped = peft_lora(twin, tmp_path, target_modules=["0", "2"])
    bank, image = LoraBank(network), torch.randn(1, 3, 8, 8)
    bank.attach(spec(), tmp_path)
    bank.activate((AdapterUse("a"),))
    assert torch.allclose(network(image), wrapped(image), atol=1e-4)
