"""Every class a text-to-image card names: served by a hub, loaded by the real loader, asked for pictures."""

from __future__ import annotations

import inspect
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines import denoising
from pipelines.core.errors import Cancelled
from pipelines.core.params import build
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Event, Job, Preview, Progress, Stop
from pipelines.text_to_image import FAMILIES, Painter, Params
from tests.hub import LoopbackHub
from tests.tiny import serving
from tests.tiny import text_to_image as tiny

TAIYI = serving.CATALOG.model("taiyi-sd-zh")
SPECS = [*serving.one_of_each("text_to_image"), TAIYI]  # Taiyi: a known class around another text encoder
PROMPT = "一只猫 a cat, 水彩"


@pytest.fixture(scope="module", params=SPECS, ids=lambda spec: spec.id)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    with LoopbackHub() as hub:
        spec: ModelSpec = request.param
        builders = tiny.BUILDERS | ({"StableDiffusionPipeline": tiny.stable_diffusion_bert} if spec is TAIYI else {})
        registry = serving.registry(hub, tmp_path_factory.mktemp("painting"), builders, spec)
        yield Painter(registry, lease_seconds=5), spec


def ask(spec: ModelSpec, **more: object) -> Params:
    own = {"prompt": PROMPT, "model": spec.id, "steps": 3, "seed": 7, "width": 64, "height": 64}
    return build(Params, {**own, **more})


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.float64)


def test_model_draws_a_picture_that_carries_its_settings(served: tuple) -> None:
    painter, spec = served
    result = painter.run(ask(spec, width=64, height=96), Job())
    picture = Image.open(io.BytesIO(result.images[0]))
    note = json.loads(picture.text["parameters"])
    assert picture.size == (64, 96) == (result.width, result.height) == (note["width"], note["height"])
    assert note["prompt"] == PROMPT and note["seed"] == 7 and note["model"] == spec.id and note["steps"] == 3
    assert result.made.model == spec.id and result.blanked == (False,)
    assert pixels(result.images[0]).std() > 1


def test_same_seed_same_bytes_and_the_second_of_two_is_its_own_seed_alone(served: tuple) -> None:
    painter, spec = served
    two = painter.run(ask(spec, count=2), Job())
    again = [painter.run(ask(spec, seed=seed), Job()).images[0] for seed in (7, 8)]
    assert two.seeds == (7, 8)
    assert list(two.images) == again
    assert not np.array_equal(pixels(again[0]), pixels(again[1]))


def test_prompt_matters(served: tuple) -> None:
    painter, spec = served
    cat, fall = (painter.run(ask(spec, prompt=p), Job()).images[0] for p in ("一只猫", "飞流直下三千尺 waterfall"))
    assert not np.array_equal(pixels(cat), pixels(fall))


def test_every_step_is_told_and_the_last_preview_is_the_picture(served: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    painter, spec = served
    monkeypatch.setattr(denoising.Pace, "due", lambda self: True)
    events: list[Event] = []
    result = painter.run(ask(spec), Job(emit=events.append))
    steps = [event.done / event.total for event in events if isinstance(event, Progress) and event.stage == "run"]
    previews = [event for event in events if isinstance(event, Preview)]
    assert steps == sorted(steps) and steps[-1] == 1.0 and len(previews) == len(steps) >= 3
    assert [preview.step for preview in previews] == list(range(1, len(steps) + 1))
    difference = np.abs(np.asarray(previews[-1].value, dtype=float) - pixels(result.images[0])).mean()
    first = np.abs(np.asarray(previews[0].value, dtype=float) - pixels(result.images[0])).mean()
    assert difference < 1.5 and difference < first  # out of 255; samplers differ in how they end


def test_stop_at_step_2_of_50_ends_within_one_step(served: tuple) -> None:
    painter, spec = served
    stop, steps = Stop(), []

    def emit(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "run":
            steps.append(event.done)
            if event.done == 2:
                stop.set()

    with pytest.raises(Cancelled):
        painter.run(ask(spec, steps=50), Job(stop, emit))
    assert steps == [1, 2]
    assert painter.run(ask(spec), Job()).images  # the model is free and whole again


def test_scheduler_named_is_the_one_used_and_the_models_own_comes_back(served: tuple) -> None:
    painter, spec = served
    samplers = FAMILIES[spec.options["cls"]].samplers
    before = painter.run(ask(spec), Job()).images[0]
    for name, cls in samplers.items():
        drawn = painter.run(ask(spec, scheduler=name), Job()).images[0]
        assert json.loads(Image.open(io.BytesIO(drawn)).text["parameters"])["scheduler"] == cls
    assert painter.run(ask(spec), Job()).images[0] == before


def test_lora_of_the_catalogue_changes_the_picture_and_leaves_the_base_as_it_was(tmp_path: Path) -> None:
    spec, adapter = serving.CATALOG.model("sd15"), serving.CATALOG.adapter("lcm-lora-sd15")
    tiny.lcm_lora(tmp_path / "lora")
    with LoopbackHub() as hub:
        hub.add(adapter.source.removeprefix("hf:"), tmp_path / "lora")
        registry = serving.registry(hub, tmp_path, tiny.BUILDERS, spec)
        registry.add_adapter(adapter)
        painter = Painter(registry, lease_seconds=5)
        weights = (None, 1.0, 0.5, 1.0, None)
        drawn = [
            painter.run(ask(spec, adapters=[] if w is None else [(adapter.id, w)]), Job()).images[0] for w in weights
        ]
    before, full, half, again, after = drawn
    assert before == after and full == again
    assert len({pixels(png).tobytes() for png in (before, full, half)}) == 3
    assert json.loads(Image.open(io.BytesIO(half)).text["parameters"])["adapters"] == [
        {"id": adapter.id, "weight": 0.5}
    ]


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_table_of_classes_agrees_with_diffusers(name: str) -> None:
    import diffusers

    family = FAMILIES[name]
    accepted = inspect.signature(getattr(diffusers, name).__call__).parameters
    used = {"prompt", "num_inference_steps", "width", "height", "generator", "callback_on_step_end", family.guidance}
    assert used <= set(accepted)
    assert not family.negative or "negative_prompt" in accepted
    for sampler in family.samplers.values():
        assert hasattr(diffusers, sampler) and sampler in denoising.ESTIMATES


def test_every_card_names_a_class_of_the_table() -> None:
    assert {spec.options["cls"] for spec in serving.CATALOG.models("text_to_image")} <= set(FAMILIES)
    assert set(FAMILIES) == set(tiny.BUILDERS)
