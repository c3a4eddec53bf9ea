"""Reads the dialects diffusion LoRAs are written in (PEFT's, diffusers', kohya's …) as what they add to which layer.

The translation of names is diffusers' own; the checks are those of every other adapter. Touches no network.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import (
    convert_state_dict_to_diffusers,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from torch import Tensor

from pipelines.core.errors import AdapterMismatch
from pipelines.core.specs import AdapterSpec
from pipelines.loaders.adapter_files import (
    AdapterFile,
    Target,
    check_layers,
    check_scale,
    check_shapes,
    open_adapter,
    pair_up,
)
from pipelines.loaders.lora import Delta, LoraBank, check_effect, read_tensors
from pipelines.loaders.lora_settings import LoraSettings, settings_of

_NOTES = "lora_adapter_metadata"  # where diffusers puts PEFT's settings, in the file's own header
_PEFT = "base_model.model."
_CPU = torch.device("cpu")


def read_lora(pipe: Any, banks: Mapping[str, LoraBank], spec: AdapterSpec, folder: Path) -> dict[str, list[Delta]]:
    """What the adapter adds to each part of the pipeline; raises AdapterMismatch."""
    opened = open_adapter(folder, spec)
    _refuse_other_kinds(opened)
    if opened.settings is not None and all(name.startswith(_PEFT) for name in opened.header.tensors):
        part = next(iter(banks))  # PEFT's own layout knows one network: the one that denoises
        pairs = opened.plan(banks[part].targets)
        tensors = read_tensors(opened, _CPU)
        found = {part: [Delta(p.layer, tensors[p.a], tensors[p.b], p.scale) for p in pairs]}
    else:
        found = _translated(pipe, banks, opened)
    check_effect(spec.id, [delta for deltas in found.values() for delta in deltas])
    return found


def _refuse_other_kinds(opened: AdapterFile) -> None:
    """diffusers would drop DoRA's magnitudes with a warning, and has other code for LoKr and LoHa."""
    for name in opened.header.tensors:
        if "dora_scale" in name or "magnitude" in name:
            raise AdapterMismatch("adapter_feature", id=opened.id, feature="use_dora")
        if ".lokr_" in name or ".hada_" in name:
            raise AdapterMismatch("adapter_kind", id=opened.id, kind="LOKR" if ".lokr_" in name else "LOHA")


def _translated(pipe: Any, banks: Mapping[str, LoraBank], opened: AdapterFile) -> dict[str, list[Delta]]:
    state, alphas = _in_diffusers_names(pipe, read_tensors(opened, _CPU), opened.id)
    notes = _notes(opened)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        part, _, inside = name.partition(".")
        if part not in banks:
            raise AdapterMismatch("adapter_unknown_tensor", id=opened.id, name=name[:120])
        parts.setdefault(part, {})[inside] = tensor
    found = {}
    for part, tensors in parts.items():
        own = {key.removeprefix(part + "."): value for key, value in notes.items() if key.startswith(part + ".")}
        settings = settings_of({"peft_type": "LORA", **own}, opened.id) if own else None
        named = _in_peft_names(part, tensors, banks[part].targets)
        factors = _alphas_of(part, alphas, banks[part].targets)
        found[part] = _deltas(opened.id, named, banks[part].targets, settings, factors)
    return found


def _in_diffusers_names(pipe: Any, tensors: dict[str, Tensor], id: str) -> tuple[dict[str, Tensor], dict[str, float]]:
    """ "part.layer…" -> tensor, and kohya's alphas, by the pipeline class's own translation."""
    options = {"unet_config": pipe.unet.config} if getattr(pipe, "unet", None) is not None else {}
    try:
        answer = type(pipe).lora_state_dict(dict(tensors), **options)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RuntimeError) as error:
        raise AdapterMismatch("adapter_dialect", id=id) from error
    state, alphas = answer if isinstance(answer, tuple) else (answer, None)
    return state, dict(alphas or {})


def _notes(opened: AdapterFile) -> dict[str, Any]:
    text = opened.header.metadata.get(_NOTES)
    try:
        notes = json.loads(text) if text else {}
    except (ValueError, TypeError, RecursionError):
        notes = None
    if not isinstance(notes, dict):
        raise AdapterMismatch("adapter_bad_config", id=opened.id, setting=_NOTES)
    return notes


def _in_peft_names(part: str, tensors: dict[str, Tensor], targets: Mapping[str, Target]) -> dict[str, Tensor]:
    if not part.startswith("text_encoder"):
        return tensors if "lora_A" in next(iter(tensors)) else convert_unet_state_dict_to_peft(tensors)
    named = convert_state_dict_to_peft(convert_state_dict_to_diffusers(tensors))
    if "text_model" not in targets:  # newer transformers have no such level
        named = {name.removeprefix("text_model."): tensor for name, tensor in named.items()}
    return named


def _alphas_of(part: str, alphas: Mapping[str, float], targets: Mapping[str, Target]) -> dict[str, float]:
    """Kohya's alphas of a part by layer; some are named after a tensor, whose name is then translated like it."""
    own = {key.removeprefix(part + ".").removesuffix(".alpha"): a for key, a in alphas.items() if key.startswith(part)}
    found = {}
    for name, alpha in own.items():
        if name.endswith(".down.weight"):
            name = next(iter(_in_peft_names(part, {name: torch.empty(0)}, targets))).rpartition(".lora_")[0]
        found[name] = alpha
    return found


def _deltas(
    id: str,
    tensors: Mapping[str, Tensor],
    targets: Mapping[str, Target],
    settings: LoraSettings | None,
    alphas: Mapping[str, float],
) -> list[Delta]:
    """Checked against the part's layers. Without settings or alphas the factor is 1, as diffusers has it."""
    pairs = pair_up(id, tensors)
    if settings is not None:
        check_layers(id, settings, set(pairs), targets)
    common = Counter(alphas.values()).most_common(1)
    found = []
    for layer, (a, b) in pairs.items():
        if layer not in targets or targets[layer].kind == "other":
            raise AdapterMismatch("adapter_unknown_tensor", id=id, name=a[:120])
        rank = check_shapes(id, layer, (tuple(tensors[a].shape), tuple(tensors[b].shape)), targets[layer])
        if settings is not None and rank != settings.rank_of(layer):
            raise AdapterMismatch("adapter_rank", id=id, layer=layer, rank=rank, said=settings.rank_of(layer))
        scale = settings.scale_of(layer) if settings else 1.0
        if common:
            scale = float(alphas.get(layer, common[0][0])) / rank
        found.append(Delta(layer, tensors[a], tensors[b], check_scale(id, scale)))
    return found
