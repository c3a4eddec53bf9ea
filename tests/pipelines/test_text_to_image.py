"""What a request for a picture may ask, what is refused before anything loads, and when previews come."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pipelines import denoising
from pipelines.core.errors import InvalidInput, ModelLoadFailed
from pipelines.core.params import build
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Job, Progress
from pipelines.text_to_image import Painter, Params, plan
from tests.hub import LoopbackHub
from tests.tiny import serving
from tests.tiny import text_to_image as tiny

SD15 = serving.CATALOG.model("sd15")


def asked(spec: ModelSpec, **raw: object) -> Any:
    return plan(spec, build(Params, {"prompt": "a cat", "model": spec.id, **raw}))


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Painter]:
    with LoopbackHub() as hub:
        registry = serving.registry(hub, tmp_path_factory.mktemp("painting"), tiny.BUILDERS, SD15)
        yield Painter(registry, lease_seconds=5)


def test_settings_left_open_are_the_cards() -> None:
    spec = serving.CATALOG.model("lcm-dreamshaper-v7")
    decided = asked(spec)
    assert (decided.steps, decided.guidance, decided.width, decided.height) == (4, 8.5, 512, 512)
    assert (asked(spec, guidance=0).guidance, asked(spec, steps=8).steps) == (0, 8)


def test_qwen_image_is_asked_in_its_own_words() -> None:
    arguments = asked(serving.CATALOG.model("qwen-image-2512")).arguments
    assert arguments["true_cfg_scale"] == 4.0 and "guidance_scale" not in arguments
    assert arguments["negative_prompt"] == " "  # without one it ignores the guidance


@pytest.mark.parametrize(
    ("id", "raw", "code"),
    [
        ("flux2-klein-4b", {"negative_prompt": "blurry"}, "no_negative_prompt"),
        ("lcm-dreamshaper-v7", {"negative_prompt": "blurry"}, "no_negative_prompt"),
        ("lcm-dreamshaper-v7", {"scheduler": "euler"}, "no_such_scheduler"),
        ("z-image-turbo", {"scheduler": "ddim"}, "no_such_scheduler"),
        ("z-image-turbo", {"width": 72}, "wrong_multiple"),
        ("sd15", {"height": 65}, "wrong_multiple"),
        ("sd15", {"height": 56}, "out_of_range"),
        ("sd15", {"width": 1032}, "out_of_range"),
        ("sd15", {"steps": 51}, "out_of_range"),
        ("sd15", {"count": 5}, "out_of_range"),
        ("sd15", {"prompt": "  "}, "empty"),
        ("sd15", {"scheduler": "magic"}, "not_a_choice"),
    ],
)
def test_what_a_model_cannot_do_is_refused_by_name(id: str, raw: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        asked(serving.CATALOG.model(id), **raw)
    assert caught.value.code == code


def test_a_class_not_in_the_table_says_which_are() -> None:
    import dataclasses

    odd = dataclasses.replace(SD15, options={"cls": "SanaPipeline"})
    with pytest.raises(ModelLoadFailed) as caught:
        asked(odd)
    assert caught.value.code == "unsupported_class" and "ZImagePipeline" in caught.value.params["known"]


def test_negative_prompt_and_guidance_change_the_picture(painter: Painter) -> None:
    def draw(**more: object) -> bytes:
        raw = {"prompt": "a cat", "model": "sd15", "steps": 2, "seed": 1, "width": 64, "height": 64, **more}
        return Image.open(io.BytesIO(painter.run(build(Params, raw), Job()).images[0])).tobytes()

    pictures = [draw(), draw(negative_prompt="dog"), draw(guidance=0)]
    assert len(set(pictures)) == 3


def test_fresh_seeds_differ_and_are_told(painter: Painter) -> None:
    params = build(Params, {"prompt": "a cat", "model": "sd15", "steps": 1, "width": 64, "height": 64})
    runs = [painter.run(params, Job()) for _ in range(2)]
    assert runs[0].images != runs[1].images and runs[0].seeds[0] == runs[0].made.seed != runs[1].made.seed


def test_running_out_of_memory_is_named(painter: Painter, monkeypatch: pytest.MonkeyPatch) -> None:
    import diffusers

    from pipelines.core.errors import OutOfMemory

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(diffusers.StableDiffusionPipeline, "__call__", fail)
    with pytest.raises(OutOfMemory):
        painter.run(build(Params, {"prompt": "a cat", "model": "sd15"}), Job())


def test_evaluate_counts_and_times_every_prompt(painter: Painter, tmp_path: Path) -> None:
    rows = tmp_path / "prompts.jsonl"
    rows.write_text('{"prompt": "a cat"}\n{"prompt": "一只猫", "seed": 3}\n', encoding="utf-8")
    events: list[Any] = []
    job = Job(emit=events.append)
    figures = painter.evaluate(rows, job, model="sd15", steps=1, width=64, height=64)
    assert figures["n"] == 2 and 0 < figures["seconds_per_item"] < 20
    assert [event.done for event in events if isinstance(event, Progress)] == [1, 2]


def test_evaluate_names_the_line_without_a_prompt(painter: Painter, tmp_path: Path) -> None:
    rows = tmp_path / "prompts.jsonl"
    rows.write_text(json.dumps({"text": "a cat"}), encoding="utf-8")
    with pytest.raises(InvalidInput) as caught:
        painter.evaluate(rows, Job(), model="sd15")
    assert caught.value.params == {"line": 1, "need": "prompt"}


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerDiscreteScheduler", "FlowMatchEulerDiscreteScheduler"])
def test_clean_latent_is_recovered_exactly_from_a_true_prediction(name: str, kind: str) -> None:
    """Mix a known latent with noise as the scheduler does, predict perfectly: the known latent must come back."""
    import diffusers

    flow = name.startswith("FlowMatch")
    scheduler = getattr(diffusers, name)(**({} if flow else {"prediction_type": kind}))
    scheduler.set_timesteps(4)
    clean, noise = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    step = scheduler.timesteps[1]
    mixed = scheduler.scale_noise(clean, step[None], noise) if flow else scheduler.add_noise(clean, noise, step[None])
    alpha = None if flow else scheduler.alphas_cumprod[int(step)]
    velocity = noise - clean if flow else alpha**0.5 * noise - (1 - alpha) ** 0.5 * clean
    output = velocity if flow else {"epsilon": noise, "v_prediction": velocity, "sample": clean}[kind]
    watched = denoising.Clean(scheduler)
    scheduler.is_scale_input_called = True
    scheduler.step(output, step, mixed)
    torch.testing.assert_close(watched.latent, clean, atol=1e-4, rtol=1e-4)


def test_previews_keep_to_a_small_share_of_the_time() -> None:
    now = [0.0]
    pace = denoising.Pace(clock=lambda: now[0])
    assert pace.due()
    now[0] = 1.0  # the preview took a second
    pace.done()
    now[0] = 4.9
    assert not pace.due()
    now[0] = 5.0
    assert pace.due()
