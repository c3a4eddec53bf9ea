"""Small random LoRA adapters, written by PEFT and diffusers themselves."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def peft_lora(base: nn.Module, folder: Path, *, seed: int = 1, name: str = "default", **config: Any) -> nn.Module:
    """Put a random adapter on a network, save it as PEFT does, and return PEFT's wrapped network."""
    settings = {"r": 4, "lora_alpha": 8, "target_modules": list(ALL_LINEAR), "init_lora_weights": False, **config}
    torch.manual_seed(seed)
    wrapped = get_peft_model(base, LoraConfig(**settings), adapter_name=name).eval()
    wrapped.save_pretrained(folder)
    return wrapped


def lora_for(base: Path, folder: Path, *, seed: int = 1, **config: Any) -> Path:
    """A random adapter for the causal language model in `base`."""
    from transformers import AutoModelForCausalLM

    peft_lora(AutoModelForCausalLM.from_pretrained(base), folder, seed=seed, **config)
    return folder


def diffusers_lora(pipe: Any, folder: Path, *, seed: int = 1, parts: Iterable[str] = ("unet",), **config: Any) -> Path:
    """A random adapter for parts of a diffusion pipeline, saved by the pipeline's own class."""
    from peft.utils import get_peft_model_state_dict

    names = {"unet": ["to_q", "to_k", "to_v", "to_out.0"], "text_encoder": ["q_proj", "v_proj"]}
    layers, notes = {}, {}
    torch.manual_seed(seed)
    for part in parts:
        network = getattr(pipe, part)
        settings = {"r": 2, "lora_alpha": 4, "target_modules": names[part], "init_lora_weights": False, **config}
        network.add_adapter(LoraConfig(**settings))
        layers[f"{part}_lora_layers"] = get_peft_model_state_dict(network, adapter_name="default")
        notes[f"{part}_lora_adapter_metadata"] = network.peft_config["default"].to_dict()
    type(pipe).save_lora_weights(folder, **layers, **notes)
    return folder
