"""The loaders without a machinery of their own: ONNX, open_clip, the networks of this repository, hibari."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.core.catalog import Catalog
from pipelines.core.errors import AdapterMismatch, InvalidInput, ModelLoadFailed
from pipelines.core.settings import Settings
from pipelines.core.specs import AdapterSpec, AdapterUse, ModelSpec
from pipelines.core.streaming import Stop
from pipelines.loaders.devices import available_memory, choose_device, default_budget, spare_a_core
from pipelines.loaders.hibari import HibariLoader
from pipelines.loaders.onnx import OnnxLoader
from pipelines.loaders.open_clip import OpenClipLoader
from pipelines.loaders.sources import Sources
from pipelines.loaders.torch import TorchLoader
from tests.pipelines.test_sources import card
from tests.tiny import retrieval as tiny

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.line = nn.Linear(width, width)
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x):
        return self.line(x - self.mean)
"""
ADAPTER = AdapterSpec(id="style", base="toy", source="dir:x", title={}, license="mit", size_mb=1)


def hibari_file() -> Path:
    return Sources(Settings.read()).fetch(_hibari_card(), stop=Stop(), progress=lambda _: None)


def _hibari_card() -> ModelSpec:
    return Catalog.read(Settings.read().root / "pipelines" / "catalog").model("hibari-heart")


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network of pipelines.nets that exists for this test only, with its weights in a folder."""
    import torch
    from safetensors.torch import save_file

    import pipelines.nets

    (tmp_path / "toy_net.py").write_text(NET)
    monkeypatch.setattr(pipelines.nets, "__path__", [*pipelines.nets.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "pipelines.nets.toy_net", raising=False)
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"network": {"width": 300}, "labels": ["a", "b"]}))
    save_file(
        {"line.weight": torch.eye(300), "line.bias": torch.ones(300), "mean": torch.ones(300)},
        folder / "model.safetensors",
    )
    return folder


def torch_card(**options: Any) -> ModelSpec:
    return card("dir:x", loader="torch", options={"cls": "pipelines.nets.toy_net:Net", **options})


def test_a_network_of_this_repository_is_built_from_config_and_safetensors(net: Path) -> None:
    import torch

    loaded = TorchLoader().load(torch_card(), net, "cpu")
    assert loaded.config["labels"] == ["a", "b"] and loaded.folder == net
    assert not loaded.module.training
    assert torch.equal(loaded.module(torch.full((1, 300), 2.0)), torch.full((1, 300), 2.0))


def test_a_network_is_measured_in_the_bytes_it_holds_and_gives_them_back(net: Path) -> None:
    loader = TorchLoader()
    loaded = loader.load(torch_card(), net, "cpu")
    module = loaded.module
    assert loader.measure(loaded) == 4 * (300 * 300 + 300 + 300)
    loader.free(loaded)
    assert sum(parameter.numel() for parameter in module.parameters()) == 0


def write_adapter(folder: Path, layer: str, width: int) -> None:
    """A PEFT LoRA of rank 2 on one layer, both halves ones."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": [layer]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    halves = {"A": torch.ones(2, width), "B": torch.ones(width, 2)}
    tensors = {f"base_model.model.{layer}.lora_{half}.weight": value for half, value in halves.items()}
    save_file(tensors, folder / "adapter_model.safetensors")


def test_a_network_takes_lora_and_is_itself_again_without(net: Path, tmp_path: Path) -> None:
    import torch

    write_adapter(tmp_path / "style", "line", 300)
    loader, pulse = TorchLoader(), torch.full((1, 300), 2.0)
    loaded = loader.load(torch_card(), net, "cpu")
    before = loaded.module(pulse)
    loader.check(loaded, ADAPTER, tmp_path / "style")
    assert loader.attach(loaded, ADAPTER, tmp_path / "style").size == 2 * 2 * 300 * 4
    assert torch.equal(loaded.module(pulse), before)
    loader.activate(loaded, (AdapterUse("style", 0.5),))
    assert torch.allclose(loaded.module(pulse), before + 0.5 * 600)
    loader.activate(loaded, ())
    loader.detach(loaded, "style")
    assert torch.equal(loaded.module(pulse), before)


def test_an_adapter_of_another_shape_is_refused_and_nothing_has_moved(net: Path, tmp_path: Path) -> None:
    write_adapter(tmp_path / "style", "line", 299)
    loader = TorchLoader()
    loaded = loader.load(torch_card(), net, "cpu")
    with pytest.raises(AdapterMismatch):
        loader.check(loaded, ADAPTER, tmp_path / "style")
    assert loader.measure(loaded) == 4 * (300 * 300 + 300 + 300)


def test_a_class_from_anywhere_else_is_refused(net: Path) -> None:
    for path in ("os:system", "pipelines.netsx:Net", "subprocess:Popen", "pipelines.nets.toy_net:__class__.x", ""):
        with pytest.raises(ModelLoadFailed):
            TorchLoader().load(torch_card(cls=path), net, "cpu")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(net: Path, name: str) -> None:
    (net / name).unlink()
    with pytest.raises(ModelLoadFailed) as error:
        TorchLoader().load(torch_card(), net, "cpu")
    assert error.value.params["file"] == name


def test_weights_of_another_shape_are_refused(net: Path) -> None:
    (net / "config.json").write_text('{"width": 299}')
    with pytest.raises(ModelLoadFailed) as error:
        TorchLoader().load(torch_card(), net, "cpu")
    assert error.value.code == "weights_do_not_fit"


def test_onnx_files_become_named_sessions(tmp_path: Path) -> None:
    (tmp_path / "voice.onnx").write_bytes(hibari_file().read_bytes())
    spec = card("dir:x", loader="onnx", options={"files": {"voice": "voice.onnx"}})
    loader = OnnxLoader()
    loaded = loader.load(spec, tmp_path, "cpu")
    assert [put.name for put in loaded.sessions["voice"].get_inputs()] == ["ids", "speed"]
    assert loader.measure(loaded) == (tmp_path / "voice.onnx").stat().st_size


def test_a_source_of_one_onnx_file_is_the_session_named_model() -> None:
    loaded = OnnxLoader().load(card("pip:x/y.onnx", loader="onnx"), hibari_file(), "cpu")
    assert list(loaded.sessions) == ["model"]


def test_freeing_onnx_sessions_really_ends_them() -> None:
    loader = OnnxLoader()
    loaded = loader.load(card("pip:x/y.onnx", loader="onnx"), hibari_file(), "cpu")
    session = weakref.ref(loaded.sessions["model"])
    loader.free(loaded)
    assert session() is None


@pytest.mark.parametrize("options", [{}, {"files": {"voice": "absent.onnx"}}])
def test_an_onnx_card_that_names_no_file_there_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ModelLoadFailed):
        OnnxLoader().load(card("dir:x", loader="onnx", options=options), tmp_path, "cpu")


def test_hibari_speaks_the_same_words_the_same_way() -> None:
    speaker = HibariLoader().load(_hibari_card(), hibari_file(), "cpu")
    first, second = speaker("Good morning.", seed=3), speaker("Good morning.", seed=3)
    assert first.dtype == np.float32 and first.size > speaker.sample_rate // 2
    np.testing.assert_array_equal(first, second)


MEMORY = """
import psutil
from tests.pipelines.test_small_loaders import HibariLoader, _hibari_card, hibari_file
loader, spec, file, process = HibariLoader(), _hibari_card(), hibari_file(), psutil.Process()
loader.free(loader.load(spec, file, "cpu"))
empty = process.memory_info().rss
loaded = loader.load(spec, file, "cpu")
size = loader.measure(loaded)
assert 0.6 < (process.memory_info().rss - empty) / size < 1.6, "measured size is not the real one"
loader.free(loaded)
assert process.memory_info().rss - empty < 0.25 * size, "memory was not given back"
"""


def test_freeing_hibari_gives_its_memory_back_and_a_reload_makes_no_second_copy() -> None:
    run = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr


def test_an_unknown_voice_is_refused_before_anything_could_be_downloaded() -> None:
    spec = card("pip:x", loader="hibari", options={"voice": "nobody"})
    with pytest.raises(ModelLoadFailed):
        HibariLoader().load(spec, hibari_file(), "cpu")


@pytest.mark.parametrize("loader", [OnnxLoader(), HibariLoader()])
def test_families_without_adapters_say_so(loader: Any, tmp_path: Path) -> None:
    for call in (loader.check, loader.attach):
        with pytest.raises(AdapterMismatch) as error:
            call(None, ADAPTER, tmp_path)
        assert error.value.code == "adapters_unsupported"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    tiny.BUILDERS["open_clip"](tmp_path / "clip")
    return tmp_path / "clip"


def test_open_clip_reads_pictures_and_words_from_a_local_folder(clip: Path) -> None:
    import torch
    from PIL import Image

    loader = OpenClipLoader()
    loaded = loader.load(card("dir:x", loader="open_clip"), clip, "cpu")
    with torch.inference_mode():
        picture = loaded.model.encode_image(loaded.preprocess(Image.new("RGB", (50, 40), "red"))[None])
        words = loaded.model.encode_text(loaded.tokenizer(["a red square", "一"]))
    assert picture.shape[1] == words.shape[1] and words.shape[0] == 2
    assert not loaded.model.training


def test_open_clip_has_the_weights_of_the_file_and_gives_them_back(clip: Path) -> None:
    import torch
    from safetensors.torch import load_file

    loader = OpenClipLoader()
    loaded = loader.load(card("dir:x", loader="open_clip"), clip, "cpu")
    stored = load_file(clip / "open_clip_model.safetensors")
    assert torch.equal(loaded.model.state_dict()["token_embedding.weight"], stored["token_embedding.weight"])
    model = loaded.model
    assert loader.measure(loaded) >= sum(value.nbytes for value in stored.values())
    loader.free(loaded)
    assert sum(parameter.numel() for parameter in model.parameters()) == 0


def test_open_clip_never_starts_from_random_weights(clip: Path) -> None:
    (clip / "open_clip_model.safetensors").rename(clip / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelLoadFailed) as error:
        OpenClipLoader().load(card("dir:x", loader="open_clip"), clip, "cpu")
    assert error.value.code == "file_missing"


@pytest.mark.parametrize("architecture", ["", "hf-hub:laion/CLIP", "local-dir:/etc", "no-such-net"])
def test_an_architecture_open_clip_does_not_have_is_refused(clip: Path, architecture: str) -> None:
    (clip / "open_clip_config.json").unlink()
    with pytest.raises(ModelLoadFailed):
        OpenClipLoader().load(card("dir:x", loader="open_clip", options={"architecture": architecture}), clip, "cpu")


def test_a_text_tower_that_lives_in_another_repository_is_refused(clip: Path) -> None:
    config = json.loads((clip / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_model_name"] = "xlm-roberta-base"
    (clip / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelLoadFailed) as error:
        OpenClipLoader().load(card("dir:x", loader="open_clip"), clip, "cpu")
    assert error.value.code == "needs_other_model"


def test_the_device_asked_for_must_be_there() -> None:
    assert choose_device("auto") in ("cpu", "cuda", "mps")
    assert choose_device("cpu") == "cpu"
    with pytest.raises(InvalidInput) as error:
        choose_device("tpu")
    assert "cpu" in error.value.params["known"]


def test_the_budget_leaves_room_to_work_in() -> None:
    assert 0.5 < default_budget("cpu") / available_memory() < 0.7


@pytest.mark.parametrize(("cores", "given", "threads"), [(8, None, "7"), (1, None, "1"), (8, "3", "3")])
def test_one_core_is_left_to_the_page(
    monkeypatch: pytest.MonkeyPatch, cores: int, given: str | None, threads: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given or "")
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr("psutil.cpu_count", lambda logical: cores)
    spare_a_core()
    assert os.environ["OMP_NUM_THREADS"] == threads
