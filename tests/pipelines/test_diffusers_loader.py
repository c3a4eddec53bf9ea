"""The diffusers loader on a tiny random Stable Diffusion: load, measure, adapters, free."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.core.errors import AdapterMismatch, ModelLoadFailed
from pipelines.core.specs import AdapterSpec, AdapterUse, ModelSpec
from pipelines.loaders.diffusers import DiffusersLoader
from tests.tiny.adapters import diffusers_lora, peft_lora
from tests.tiny.text_to_image import stable_diffusion

WEIGHTS = "pytorch_lora_weights.safetensors"


def card(**options: Any) -> ModelSpec:
    return ModelSpec(
        id="sd", task="text_to_image", loader="diffusers", source="dir:sd", size_mb=1, title={}, license="x",
        tier="starter", parameters_m=1, languages=("en",), options={"cls": "StableDiffusionPipeline", **options},
    )  # fmt: skip


def adapter(id: str = "style") -> AdapterSpec:
    return AdapterSpec(id=id, base="sd", source="dir:x", title={}, license="x", size_mb=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base: Path = tmp_path_factory.mktemp("sd")
    stable_diffusion(base)
    return base


@pytest.fixture(scope="module")
def style(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pipe = DiffusersLoader().load(card(), folder, "cpu")
    return diffusers_lora(pipe, tmp_path_factory.mktemp("style"), parts=("unet", "text_encoder"))


@pytest.fixture(scope="module")
def loader() -> DiffusersLoader:
    return DiffusersLoader()


@pytest.fixture
def pipe(loader: DiffusersLoader, folder: Path) -> Iterator[Any]:
    yield loader.load(card(), folder, "cpu")


def draw(pipe: Any) -> torch.Tensor:
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    return torch.from_numpy(pipe("a cat", num_inference_steps=1, generator=generator, output_type="np").images)


def test_an_adapter_acts_as_in_diffusers_and_leaves_the_very_same_base(
    loader: DiffusersLoader, pipe: Any, folder: Path, style: Path
) -> None:
    before = draw(pipe)
    loader.check(pipe, adapter(), style)
    assert loader.attach(pipe, adapter(), style).how == "hot swap"
    assert torch.equal(draw(pipe), before)
    loader.activate(pipe, (AdapterUse("style"),))
    acting = draw(pipe)
    reference = loader.load(card(), folder, "cpu")
    reference.load_lora_weights(style, weight_name=WEIGHTS)
    assert not torch.allclose(acting, before, atol=1e-3)
    assert torch.allclose(acting, draw(reference), atol=1e-4)
    loader.activate(pipe, ())
    loader.detach(pipe, "style")
    assert torch.equal(draw(pipe), before)
    assert not any("lora" in name for name, _ in pipe.unet.named_modules())


def test_two_adapters_act_together_at_their_weights(
    loader: DiffusersLoader, pipe: Any, folder: Path, style: Path, tmp_path: Path
) -> None:
    other = diffusers_lora(loader.load(card(), folder, "cpu"), tmp_path, seed=2)
    loader.attach(pipe, adapter(), style)
    loader.attach(pipe, adapter("other"), other)
    loader.activate(pipe, (AdapterUse("style", 0.5), AdapterUse("other", -1.5)))
    reference = loader.load(card(), folder, "cpu")
    reference.load_lora_weights(style, weight_name=WEIGHTS, adapter_name="style")
    reference.load_lora_weights(other, weight_name=WEIGHTS, adapter_name="other")
    reference.set_adapters(["style", "other"], [0.5, -1.5])
    assert torch.allclose(draw(pipe), draw(reference), atol=1e-4)


def test_an_adapter_saved_by_peft_acts_on_the_denoiser(
    loader: DiffusersLoader, pipe: Any, folder: Path, tmp_path: Path
) -> None:
    reference = loader.load(card(), folder, "cpu")
    peft_lora(reference.unet, tmp_path, target_modules=["to_q", "to_v"])
    loader.attach(pipe, adapter(), tmp_path)
    loader.activate(pipe, (AdapterUse("style"),))
    assert torch.allclose(denoise(pipe), denoise(reference), atol=1e-4)


def kohya(pipe: Any, folder: Path, alpha: dict[str, float]) -> None:
    """One rank-2 layer of the U-Net for each entry, with its alpha."""
    torch.manual_seed(3)
    tensors = {}
    for name, value in alpha.items():
        layer, key = pipe.unet.get_submodule(name), "lora_unet_" + name.replace(".", "_")
        tensors[f"{key}.lora_down.weight"] = torch.randn(2, layer.in_features)
        tensors[f"{key}.lora_up.weight"] = torch.randn(layer.out_features, 2)
        tensors[f"{key}.alpha"] = torch.tensor(value)
    save_file(tensors, folder / "kohya.safetensors")


def attention(pipe: Any) -> tuple[str, str]:
    names = [name for name, _ in pipe.unet.named_modules() if name.endswith(("attn1.to_q", "ff.net.2"))]
    return names[0], names[1]


def test_a_kohya_file_acts_as_in_diffusers(loader: DiffusersLoader, pipe: Any, folder: Path, tmp_path: Path) -> None:
    kohya(pipe, tmp_path, dict.fromkeys(attention(pipe), 0.5))
    loader.attach(pipe, adapter(), tmp_path)
    loader.activate(pipe, (AdapterUse("style"),))
    reference = loader.load(card(), folder, "cpu")
    reference.load_lora_weights(tmp_path, weight_name="kohya.safetensors")
    assert torch.allclose(draw(pipe), draw(reference), atol=1e-4)


def test_each_layer_of_a_kohya_file_has_its_own_alpha(loader: DiffusersLoader, pipe: Any, tmp_path: Path) -> None:
    first, second = attention(pipe)
    kohya(pipe, tmp_path, {first: 0.5, second: 3.0})
    loader.attach(pipe, adapter(), tmp_path)
    loader.activate(pipe, (AdapterUse("style"),))
    tensors = load_file(tmp_path / "kohya.safetensors")
    for name, alpha in ((first, 0.5), (second, 3.0)):
        layer, key = pipe.unet.get_submodule(name), "lora_unet_" + name.replace(".", "_")
        x = torch.randn(1, layer.in_features)
        product = tensors[f"{key}.lora_up.weight"] @ tensors[f"{key}.lora_down.weight"]
        expected = torch.nn.functional.linear(x, layer.weight, layer.bias) + alpha / 2 * x @ product.T
        assert torch.allclose(layer(x), expected, atol=1e-5)


def denoise(pipe: Any) -> torch.Tensor:
    """One call of the U-Net."""
    torch.manual_seed(0)
    config = pipe.unet.config
    latent, text = torch.randn(1, config.in_channels, 8, 8), torch.randn(1, 5, config.cross_attention_dim)
    with torch.inference_mode():
        noise: torch.Tensor = pipe.unet(latent, 1, text).sample
    return noise


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda t: {k.replace("to_q", "to_z"): v for k, v in t.items()}, "adapter_unknown_tensor"),
        (lambda t: {k: v for k, v in t.items() if "to_q.lora_A" not in k}, "adapter_missing_tensor"),
        (lambda t: {k: torch.cat([v, v], 1) if "lora_A" in k else v for k, v in t.items()}, "adapter_shape"),
        (lambda t: {k: v * float("nan") for k, v in t.items()}, "adapter_not_finite"),
        (lambda t: {k: v * 0 for k, v in t.items()}, "adapter_no_effect"),
        (lambda t: {f"vae.{k}": v for k, v in t.items()}, "adapter_unknown_tensor"),
        (lambda t: {k.replace("lora_A", "lokr_w1"): v for k, v in t.items()}, "adapter_kind"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_the_base_alone(
    loader: DiffusersLoader, pipe: Any, style: Path, tmp_path: Path, change: Any, code: str
) -> None:
    before = denoise(pipe)
    save_file({k: v.clone() for k, v in change(load_file(style / WEIGHTS)).items()}, tmp_path / "bad.safetensors")
    with pytest.raises(AdapterMismatch) as error:
        loader.check(pipe, adapter(), tmp_path)
    assert error.value.code == code
    assert torch.equal(denoise(pipe), before)


def test_measuring_counts_every_network_and_freeing_empties_them(
    loader: DiffusersLoader, pipe: Any, style: Path
) -> None:
    own = sum(p.nbytes for part in (pipe.unet, pipe.vae, pipe.text_encoder) for p in part.parameters())
    assert own <= loader.measure(pipe) <= own * 1.01 + 10_000
    loader.attach(pipe, adapter(), style)
    gone = [weakref.ref(pipe.unet), weakref.ref(pipe.text_encoder)]
    loader.free(pipe)
    assert [ref() for ref in gone] == [None, None]
    assert loader.measure(pipe) == 0


def test_a_class_diffusers_has_not_is_named(loader: DiffusersLoader, folder: Path) -> None:
    with pytest.raises(ModelLoadFailed) as error:
        loader.load(card(cls="NoSuchPipeline"), folder, "cpu")
    assert error.value.code == "unknown_class"
