"""From the inside of a sampling loop to a picture one can look at: the clean latent a step predicts, decoded small.

The sampler's own `step` is watched, so the prediction is the guided one the model really made. Knows schedulers and
latent layouts by class name; knows nothing of prompts, seeds or jobs.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

PREVIEW_PIXELS = 256  # longest side
MIN_PAUSE = 0.3  # seconds between previews
SHARE = 4  # a preview may cost at most one part in SHARE of the time since the last


class Clean:
    """Holds the clean latent of the last step of a scheduler, whose `step` it replaces on this one instance."""

    def __init__(self, scheduler: Any) -> None:
        self.latent: Tensor | None = None
        estimate = ESTIMATES.get(type(scheduler).__name__)
        if estimate is None:
            return
        original = scheduler.step

        @functools.wraps(original)  # pipelines look at the signature to see whether it takes their generator
        def step(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
            after = original(output, timestep, sample, *args, **kwargs)
            self.latent = estimate(scheduler, output, timestep, sample)
            return after

        scheduler.step = step


def _from_flow(scheduler: Any, output: Tensor, _: Any, sample: Tensor) -> Tensor:
    """Rectified flow, x = (1 - s)·x0 + s·noise and output = noise - x0 (Liu et al. 2022)."""
    sigma = scheduler.sigmas[scheduler.step_index - 1].to(sample)
    return sample - sigma * output


def _from_sigma(scheduler: Any, output: Tensor, _: Any, sample: Tensor) -> Tensor:
    """x = x0 + s·noise (Karras et al. 2022), for noise, v and x0 predictions."""
    sigma = scheduler.sigmas[scheduler.step_index - 1].to(sample)
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return sample - sigma * output
    if kind == "v_prediction":
        return sample / (sigma**2 + 1) - output * sigma / (sigma**2 + 1) ** 0.5
    return output


def _from_alpha(scheduler: Any, output: Tensor, timestep: Any, sample: Tensor) -> Tensor:
    """x = sqrt(a)·x0 + sqrt(1 - a)·noise (Ho et al. 2020), for noise, v and x0 predictions."""
    alpha = scheduler.alphas_cumprod[int(timestep)].to(sample)
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return (sample - (1 - alpha) ** 0.5 * output) / alpha**0.5
    if kind == "v_prediction":
        return alpha**0.5 * sample - (1 - alpha) ** 0.5 * output
    return output


ESTIMATES: dict[str, Callable[[Any, Tensor, Any, Tensor], Tensor]] = {
    "FlowMatchEulerDiscreteScheduler": _from_flow,
    "EulerDiscreteScheduler": _from_sigma,
    "DDIMScheduler": _from_alpha,
    "DDPMScheduler": _from_alpha,
    "DPMSolverMultistepScheduler": _from_alpha,
    "LCMScheduler": _from_alpha,
    "PNDMScheduler": _from_alpha,
}


def decode_plain(pipe: Any, latent: Tensor, width: int, height: int) -> Image:
    """Latents [1, c, h, w] of AutoencoderKL, scaled and perhaps shifted."""
    config = pipe.vae.config
    latent = _shrink(latent, pipe.vae_scale_factor)
    latent = latent / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    return _picture(pipe, pipe.vae.decode(latent.to(pipe.vae.dtype), return_dict=False)[0])


def decode_qwen(pipe: Any, latent: Tensor, width: int, height: int) -> Image:
    """Packed 2x2 patches [1, n, 4c] of Qwen-Image's video autoencoder, of which one frame is used."""
    import torch

    config = pipe.vae.config
    latent = pipe._unpack_latents(latent, height, width, pipe.vae_scale_factor)[:, :, 0]
    latent = _shrink(latent, pipe.vae_scale_factor)[:, :, None]
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1).to(latent) for v in (config.latents_mean, config.latents_std))
    decoded = pipe.vae.decode((latent * std + mean).to(pipe.vae.dtype), return_dict=False)[0]
    return _picture(pipe, decoded[:, :, 0])


def decode_flux2(pipe: Any, latent: Tensor, width: int, height: int) -> Image:
    """Rows of 2x2 patches [1, n, 4c], normalised by the autoencoder's batch norm."""
    rows = height // (pipe.vae_scale_factor * 2)
    latent = latent.transpose(1, 2).unflatten(2, (rows, -1))
    bn = pipe.vae.bn
    std = (bn.running_var + pipe.vae.config.batch_norm_eps) ** 0.5
    latent = latent * std.view(1, -1, 1, 1).to(latent) + bn.running_mean.view(1, -1, 1, 1).to(latent)
    latent = _shrink(pipe._unpatchify_latents(latent), pipe.vae_scale_factor)
    return _picture(pipe, pipe.vae.decode(latent.to(pipe.vae.dtype), return_dict=False)[0])


def _shrink(latent: Tensor, scale: int) -> Tensor:
    """Average [1, c, h, w] down so that decoding makes a small picture: a full one each step would double the work."""
    from torch.nn.functional import adaptive_avg_pool2d

    height, width = latent.shape[-2:]
    factor = min(1.0, PREVIEW_PIXELS / scale / max(height, width))
    size = (max(1, int(height * factor)), max(1, int(width * factor)))
    return latent if factor == 1.0 else adaptive_avg_pool2d(latent.float(), size).to(latent.dtype)


def _picture(pipe: Any, decoded: Tensor) -> Image:
    picture: Image = pipe.image_processor.postprocess(decoded.detach().float(), output_type="pil")[0]
    picture.thumbnail((PREVIEW_PIXELS, PREVIEW_PIXELS))
    return picture


class Pace:
    """Says when the next preview is due: the first at once, later ones so that they take a small share of the time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0.0
        self._started = 0.0

    def due(self) -> bool:
        self._started = self._clock()
        return self._started >= self._next

    def done(self) -> None:
        """The preview that was due has been shown."""
        now = self._clock()
        self._next = now + max(MIN_PAUSE, SHARE * (now - self._started))
