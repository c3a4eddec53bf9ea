"""Pictures from words, by any diffusion pipeline in the catalogue. Knows pipeline classes by name, not the web.

Each picture of a request is drawn by itself from seed, seed + 1, ..., so the second picture of four is, byte for byte,
the one its own seed gives alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pipelines import denoising, media, metrics
from pipelines.core.errors import InvalidInput, ModelLoadFailed, OutOfMemory
from pipelines.core.params import adapters_knob, build, knob, model_knob, seed_knob
from pipelines.core.registry import Lease, Registry
from pipelines.core.specs import AdapterUse, Made, ModelSpec
from pipelines.core.streaming import Job, Preview, Progress
from pipelines.core.tasks import seed_or_fresh

if TYPE_CHECKING:
    from PIL.Image import Image

MIN_SIDE = 64
UNET_SAMPLERS = {
    "ddim": "DDIMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpm": "DPMSolverMultistepScheduler",
    "lcm": "LCMScheduler",
}
FLOW_SAMPLERS = {"euler": "FlowMatchEulerDiscreteScheduler"}


@dataclass(frozen=True, slots=True)
class Params:
    """What to draw. Steps 0, guidance -1 and sizes 0 mean the model's own."""

    prompt: str = knob(lines=3)
    negative_prompt: str = knob("", lines=2, advanced=True)
    count: int = knob(1, low=1, high=4, step=1)
    steps: int = knob(0, low=0, high=50, step=1)
    guidance: float = knob(-1.0, low=-1, high=20, step=0.5)
    width: int = knob(0, low=0, high=1024, step=8, advanced=True)
    height: int = knob(0, low=0, high=1024, step=8, advanced=True)
    scheduler: str = knob("auto", choices=("auto", *UNET_SAMPLERS), advanced=True)
    seed: int = seed_knob()
    model: str = model_knob()
    adapters: tuple[AdapterUse, ...] = adapters_knob()


@dataclass(frozen=True, slots=True)
class Result:
    """PNG files with their settings inside (iTXt `parameters`, JSON); `blanked`: a safety checker blackened it."""

    images: tuple[bytes, ...]
    width: int
    height: int
    seeds: tuple[int, ...]
    blanked: tuple[bool, ...]
    made: Made


Decode = Callable[[Any, Any, int, int], "Image"]


@dataclass(frozen=True, slots=True)
class Family:
    """What one diffusers class accepts: its names for things, its samplers, the multiple its sides must have."""

    decode: Decode
    guidance: str = "guidance_scale"
    negative: bool = True
    blank: str | None = None  # the negative prompt that stands for none
    samplers: Mapping[str, str] = field(default_factory=lambda: UNET_SAMPLERS)
    multiple: int = 8


FAMILIES = {
    "StableDiffusionPipeline": Family(denoising.decode_plain),
    "StableDiffusionXLPipeline": Family(denoising.decode_plain),
    "LatentConsistencyModelPipeline": Family(denoising.decode_plain, negative=False, samplers={"lcm": "LCMScheduler"}),
    "ZImagePipeline": Family(denoising.decode_plain, samplers=FLOW_SAMPLERS, multiple=16),
    "Flux2KleinPipeline": Family(denoising.decode_flux2, negative=False, samplers=FLOW_SAMPLERS, multiple=16),
    "QwenImagePipeline": Family(
        denoising.decode_qwen, guidance="true_cfg_scale", blank=" ", samplers=FLOW_SAMPLERS, multiple=16
    ),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A request with everything decided but the seed."""

    family: Family
    prompt: str
    negative_prompt: str
    steps: int
    guidance: float
    width: int
    height: int
    sampler: str  # a diffusers class, or "" for the model's own

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments in the words of the pipeline class."""
        family = self.family
        given: dict[str, Any] = {
            "prompt": self.prompt,
            "num_inference_steps": self.steps,
            family.guidance: self.guidance,
            "width": self.width or None,
            "height": self.height or None,
        }
        if family.negative:
            given["negative_prompt"] = self.negative_prompt or family.blank
        return given


def plan(spec: ModelSpec, params: Params) -> Plan:
    """Fill in the card's own settings and refuse what this model cannot do, before anything is loaded."""
    family = FAMILIES.get(spec.options["cls"])
    if family is None:
        raise ModelLoadFailed("unsupported_class", id=spec.id, cls=spec.options["cls"], known=", ".join(FAMILIES))
    if params.negative_prompt.strip() and not family.negative:
        raise InvalidInput("no_negative_prompt", id=spec.id)
    if params.scheduler not in ("auto", *family.samplers):
        known = ", ".join(("auto", *family.samplers))
        raise InvalidInput("no_such_scheduler", id=spec.id, scheduler=params.scheduler, known=known)
    own = spec.options.get("size", 0)
    sides = {"width": params.width or own, "height": params.height or own}
    for name, side in sides.items():
        if side and side < MIN_SIDE:
            raise InvalidInput("out_of_range", name=name, value=side, low=MIN_SIDE, high=1024)
        if side % family.multiple:
            raise InvalidInput("wrong_multiple", name=name, value=side, multiple=family.multiple, id=spec.id)
    return Plan(
        family=family,
        prompt=params.prompt,
        negative_prompt=params.negative_prompt.strip(),
        steps=params.steps or spec.options.get("steps", 25),
        guidance=params.guidance if params.guidance >= 0 else float(spec.options.get("guidance", 7.5)),
        sampler=family.samplers.get(params.scheduler, ""),
        **sides,
    )


class Painter:
    """Text to image over the registry."""

    task: ClassVar[str] = "text_to_image"
    Params: ClassVar[type] = Params
    Result: ClassVar[type] = Result

    def __init__(self, registry: Registry, *, lease_seconds: float) -> None:
        self.registry = registry
        self.lease_seconds = lease_seconds

    def run(self, params: Params, job: Job) -> Result:
        """Draw `count` pictures; raises Cancelled or TimedOut within one step of being told to stop."""
        spec = self.registry.catalog.for_task(self.task, params.model)
        decided = plan(spec, params)
        first = seed_or_fresh(params.seed)
        seeds = tuple(first + i for i in range(params.count))
        with self.registry.lease(
            spec.id, params.adapters, self.lease_seconds, stop=job.stop, progress=job.emit
        ) as lease:
            started = time.monotonic()
            drawn = [self._draw(lease, decided, seed, i, params.count, job) for i, seed in enumerate(seeds)]
            made = lease.made(seed=first, seconds=time.monotonic() - started)
        images = tuple(image for image, _ in drawn)
        width, height = _size(images[0])
        return Result(images, width, height, seeds, tuple(blank for _, blank in drawn), made)

    def evaluate(self, path: Path, job: Job, **options: Any) -> dict[str, float]:
        """Draw every row's `prompt` (of a CSV or JSON-lines file): how many, and seconds for each.

        How good they are needs a second model to judge; that is not measured here.
        """
        rows = metrics.read_rows(path)
        started = time.monotonic()
        for at, row in enumerate(rows, 1):
            if not row.get("prompt", "").strip():
                raise InvalidInput("bad_row", line=at, need="prompt")
            params = build(Params, {"prompt": row["prompt"], "seed": row.get("seed") or 0, **options})
            self.run(params, Job(job.stop))
            job.emit(Progress("evaluate", at, len(rows)))
        return {"n": float(len(rows)), "seconds_per_item": (time.monotonic() - started) / len(rows)}

    def _draw(self, lease: Lease, decided: Plan, seed: int, index: int, count: int, job: Job) -> tuple[bytes, bool]:
        import torch

        job.check()
        with _sampler(lease.model, decided.sampler) as pipe:
            watcher = _Watcher(pipe, decided, index, count, job)
            try:
                drawn = pipe(
                    **decided.arguments,
                    generator=torch.Generator("cpu").manual_seed(seed),
                    callback_on_step_end=watcher.step,
                )
            except torch.OutOfMemoryError as error:
                raise OutOfMemory("out_of_memory", id=lease.spec.id) from error
            note = _note(lease, decided, seed, type(pipe.scheduler).__name__, drawn.images[0].size)
        blank = bool((getattr(drawn, "nsfw_content_detected", None) or [False])[0])
        return media.encode_png(drawn.images[0], {"parameters": note}), blank


@contextmanager
def _sampler(pipe: Any, name: str) -> Iterator[Any]:
    """The pipeline with a sampler of this picture's own: samplers keep state, and their settings must not leak."""
    import diffusers

    own = pipe.scheduler
    cls = getattr(diffusers, name) if name else type(own)
    pipe.scheduler = cls.from_config(own.config)
    pipe.set_progress_bar_config(disable=True)
    try:
        yield pipe
    finally:
        pipe.scheduler = own


class _Watcher:
    """Called after every denoising step: tells how far it is, shows the predicted picture, and ends the job."""

    def __init__(self, pipe: Any, decided: Plan, index: int, count: int, job: Job) -> None:
        self._plan = decided
        self._index = index
        self._count = count
        self._job = job
        self._clean = denoising.Clean(pipe.scheduler)
        self._pace = denoising.Pace()

    def step(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """diffusers' `callback_on_step_end`; an exception raised here ends the sampling loop."""
        self._job.check()
        steps = pipe.num_timesteps
        self._job.emit(Progress("run", self._index * steps + step + 1, self._count * steps))
        if self._clean.latent is not None and self._pace.due():
            self._job.emit(Preview("image", self._look(pipe), step + 1))
            self._pace.done()
        return tensors

    def _look(self, pipe: Any) -> Image:
        own = getattr(pipe, "default_sample_size", 0) * pipe.vae_scale_factor
        width, height = self._plan.width or own, self._plan.height or own
        return self._plan.family.decode(pipe, self._clean.latent, width, height)


def _note(lease: Lease, decided: Plan, seed: int, sampler: str, size: tuple[int, int]) -> str:
    """Everything needed to draw the picture again, as JSON; the same picture has the same note."""
    settings = {
        "prompt": decided.prompt,
        "negative_prompt": decided.negative_prompt,
        "steps": decided.steps,
        "guidance": decided.guidance,
        "width": size[0],
        "height": size[1],
        "seed": seed,
        "scheduler": sampler,
        "model": lease.spec.id,
        "revision": lease.spec.revision,
        "adapters": [asdict(use) for use in lease.adapters],
    }
    return json.dumps(settings, ensure_ascii=False)


def _size(png: bytes) -> tuple[int, int]:
    """Width and height in pixels, from the header of a PNG file."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
