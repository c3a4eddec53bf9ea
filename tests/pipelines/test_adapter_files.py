"""What a stranger's adapter may contain, and the error each kind of it gets. Nothing of the base may change."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pipelines.core.errors import AdapterMismatch
from pipelines.core.specs import AdapterSpec, AdapterUse
from pipelines.loaders.lora import LoraBank
from tests.tiny.adapters import lora_for
from tests.tiny.reasoning import llama

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
Q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
IDS = torch.arange(3, 13)[None]


def spec(**more: Any) -> AdapterSpec:
    return AdapterSpec(**{"id": "a", "base": "b", "source": "dir:a", "title": {}, "license": "x", "size_mb": 1, **more})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("base")
    llama(folder)
    return folder


@pytest.fixture(scope="module")
def good(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lora_for(base, tmp_path_factory.mktemp("good"))


@pytest.fixture(scope="module")
def network(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base).eval()


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "a"))


def configure(**settings: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        raw = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps(raw | settings))

    return change


def tensors(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        changed = change(load_file(folder / WEIGHTS))
        save_file({name: tensor.contiguous().clone() for name, tensor in changed.items()}, folder / WEIGHTS)

    return write


def raw(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / WEIGHTS).write_bytes(change((folder / WEIGHTS).read_bytes()))

    return write


def header(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        length = int.from_bytes(data[:8], "little")
        parsed = json.loads(data[8 : 8 + length])
        text = json.dumps(change(parsed) or parsed).encode()
        (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])

    return write


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


def pickle_in_disguise(folder: Path) -> None:
    torch.save({"a": torch.ones(3)}, folder / WEIGHTS)


def set_value(value: float) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    def change(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        state[Q][1, 1] = value
        return state

    return change


BEFORE_READING = {
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "adapter_no_weights"),
    "no configuration": (lambda f: (f / CONFIG).unlink(), "adapter_no_config"),
    "two files": (
        lambda f: [shutil.copy(f / WEIGHTS, f / name) for name in ("x.safetensors", "y.safetensors")]
        and (f / WEIGHTS).unlink(),
        "adapter_many_files",
    ),
    "pickle by name": (pickled, "adapter_pickle"),
    "pickle by content": (pickle_in_disguise, "adapter_pickle"),
    "0 bytes": (raw(lambda _: b""), "adapter_empty"),
    "3 bytes": (raw(lambda _: b"abc"), "adapter_bad_header"),
    "data cut off": (raw(lambda data: data[:-100]), "adapter_truncated"),
    "header cut off": (raw(lambda data: data[:100]), "adapter_truncated"),
    "something behind": (raw(lambda data: data + b"more"), "adapter_bad_header"),
    "header of a terabyte": (raw(lambda data: (2**40).to_bytes(8, "little") + data[8:]), "adapter_bad_header"),
    "header is no JSON": (raw(lambda data: data[:8] + b"x" + data[9:]), "adapter_bad_header"),
    "header nests deep": (raw(lambda _: (200_000).to_bytes(8, "little") + b"[" * 200_000), "adapter_bad_header"),
    "negative size": (header(lambda h: h[Q].update(shape=[-4, -32])), "adapter_bad_header"),
    "overlap": (header(lambda h: h[Q].update(data_offsets=[0, 512])), "adapter_bad_header"),
    "shape against bytes": (header(lambda h: h[Q].update(shape=[10**9, 10**9])), "adapter_bad_header"),
    "integers": (tensors(lambda s: s | {Q: s[Q].to(torch.int32)}), "adapter_dtype"),
    "configuration is no JSON": (lambda f: (f / CONFIG).write_text("{"), "adapter_bad_config"),
    "configuration is a list": (lambda f: (f / CONFIG).write_text("[]"), "adapter_bad_config"),
    "unknown kind": (configure(peft_type="EVIL"), "adapter_kind"),
    "prompt tuning": (configure(peft_type="PROMPT_TUNING"), "adapter_kind"),
    "regular expression": (configure(target_modules="(.*.*)*x"), "adapter_targets"),
    "pattern in a list": (configure(target_modules=["(a+)+$"]), "adapter_targets"),
    "pattern of ranks": (configure(rank_pattern={"(a+)+$": 4}), "adapter_targets"),
    "rank of text": (configure(r="16"), "adapter_bad_config"),
    "rank 0": (configure(r=0), "adapter_bad_config"),
    "rank 200000": (configure(r=200_000), "adapter_rank_limit"),
    "rank against tensors": (configure(r=8), "adapter_rank"),
    "infinite alpha": (configure(lora_alpha=float("inf")), "adapter_bad_config"),
    "alpha beyond floats": (
        lambda f: (f / CONFIG).write_text('{"peft_type": "LORA", "lora_alpha": 1e999}'),
        "adapter_bad_config",
    ),
    "alpha 1e30": (configure(lora_alpha=1e30), "adapter_absurd"),
    "DoRA": (configure(use_dora=True), "adapter_feature"),
    "bias": (configure(bias="all"), "adapter_feature"),
    "whole layers": (configure(modules_to_save=["lm_head"]), "adapter_feature"),
    "PiSSA": (configure(init_lora_weights="pissa"), "adapter_feature"),
    "unknown setting": (configure(use_magic=True), "adapter_unknown_setting"),
    "embedding": (configure(target_modules=["embed_tokens"]), "adapter_layer_kind"),
    "other base's layers": (configure(target_modules=["c_attn"]), "adapter_unknown_tensor"),
    "renamed": (
        tensors(lambda s: {name.replace("model.layers", "encoder.layers"): t for name, t in s.items()}),
        "adapter_unknown_tensor",
    ),
    "without prefix": (tensors(lambda s: {"x." + name: t for name, t in s.items()}), "adapter_unknown_tensor"),
    "foreign tensor": (tensors(lambda s: s | {"model.norm.weight": torch.ones(32)}), "adapter_unknown_tensor"),
    "half a pair": (tensors(lambda s: {name: t for name, t in s.items() if name != Q}), "adapter_missing_tensor"),
    "a layer missing": (
        tensors(lambda s: {name: t for name, t in s.items() if "layers.0.self_attn.q_proj" not in name}),
        "adapter_missing_tensor",
    ),
    "wider base": (
        tensors(lambda s: {name: torch.cat([t, t], 1) if "lora_A" in name else t for name, t in s.items()}),
        "adapter_shape",
    ),
    "ranks of A and B": (tensors(lambda s: s | {Q: torch.randn(3, 32)}), "adapter_rank"),
}  # fmt: skip
ON_READING = {
    "NaN": (tensors(set_value(float("nan"))), "adapter_not_finite"),
    "infinity": (tensors(set_value(float("inf"))), "adapter_not_finite"),
    "minus infinity": (tensors(set_value(-float("inf"))), "adapter_not_finite"),
    "1e38": (tensors(set_value(-1e38)), "adapter_absurd"),
    "NaN among formats": (
        tensors(lambda s: {n: t.half() if n != Q else set_value(float("nan"))(s)[Q] for n, t in s.items()}),
        "adapter_not_finite",
    ),
    "all zero": (tensors(lambda s: {name: t * 0 for name, t in s.items()}), "adapter_no_effect"),
}


@pytest.mark.parametrize("case", BEFORE_READING)
def test_it_is_refused_by_its_header_within_50_ms(network: Any, folder: Path, case: str) -> None:
    change, code = BEFORE_READING[case]
    change(folder)
    bank = LoraBank(network)
    assert bank.targets  # made when the model is loaded, not when an adapter is judged
    started = time.process_time()
    with pytest.raises(AdapterMismatch) as error:
        bank.check(spec(), folder)
    assert (error.value.code, time.process_time() - started < 0.05) == (code, True)


@pytest.mark.parametrize("case", [*BEFORE_READING, *ON_READING])
def test_after_a_refusal_the_base_is_bit_identical(network: Any, folder: Path, case: str) -> None:
    with torch.inference_mode():
        before = network(IDS).logits
    change, code = (BEFORE_READING | ON_READING)[case]
    change(folder)
    bank = LoraBank(network)
    with pytest.raises(AdapterMismatch) as error:
        bank.attach(spec(), folder)
    bank.activate((AdapterUse("a"),))
    assert error.value.code == code
    with torch.inference_mode():
        assert torch.equal(network(IDS).logits, before)
    assert not any(module._forward_hooks for module in network.modules())
    assert not any("lora" in name for name, _ in network.named_modules())


def test_a_flipped_bit_is_found_by_the_hash_of_the_card(network: Any, folder: Path) -> None:
    known = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (WEIGHTS, CONFIG)}
    LoraBank(network).attach(spec(sha256=known), folder)
    raw(lambda data: data[:-1] + bytes([data[-1] ^ 1]))(folder)
    with pytest.raises(AdapterMismatch) as error:
        LoraBank(network).attach(spec(sha256=known), folder)
    assert (error.value.code, error.value.params["file"]) == ("adapter_hash", WEIGHTS)


def test_a_pickle_is_never_opened(network: Any, folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    poison = b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR."
    (folder / WEIGHTS).write_bytes(poison)
    with pytest.raises(AdapterMismatch):
        LoraBank(network).attach(spec(), folder)
    assert not canary.exists()


def test_the_name_of_its_base_is_no_reason_to_refuse(network: Any, folder: Path) -> None:
    configure(base_model_name_or_path="someone/mirror-of-it", peft_version="99", future_setting=None)(folder)
    assert LoraBank(network).attach(spec(), folder).size > 0
