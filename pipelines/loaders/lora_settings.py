"""adapter_config.json, as far as it decides what a LoRA computes; everything else in it is refused or ignored.

Names of layers are names here, never regular expressions: those come from strangers. Standard library only.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.core.errors import AdapterMismatch

log = logging.getLogger(__name__)

CONFIG = "adapter_config.json"
MAX_RANK = 256
MAX_CONFIG = 2**20
MAX_NAMES = 20_000

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")
# Settings that only say where the adapter came from or how it was trained.
_SILENT = {
    "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "lora_dropout", "fan_in_fan_out", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
    "runtime_config", "megatron_core", "qalora_group_size", "ensure_weight_tying",
}  # fmt: skip
_READ = {
    "peft_type", "r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
    "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "bias",
}  # fmt: skip
# Settings that change what the adapter computes in a way the bank does not.
_REFUSED = {
    "use_dora", "modules_to_save", "layer_replication", "megatron_config", "trainable_token_indices",
    "alora_invocation_tokens", "use_qalora", "lora_bias", "target_parameters", "use_bdlora", "arrow_config",
    "kasa_config", "monteclora_config", "velora_config",
}  # fmt: skip
_PLAIN_INIT = {"gaussian", "eva", "orthogonal"}  # the others (PiSSA, OLoRA, CorDA, LoftQ) also change the base


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """adapter_config.json, as far as it decides what is computed."""

    rank: int
    alpha: float
    targets: frozenset[str]
    excluded: frozenset[str]
    layers: tuple[int, ...]
    layers_pattern: frozenset[str]
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rank_stabilized: bool

    def wants(self, layer: str) -> bool:
        """Whether PEFT would put an adapter on this layer."""
        if _suffixed(layer, self.excluded) or not _suffixed(layer, self.targets):
            return False
        return not self.layers or _position(layer, self.layers_pattern) in self.layers

    def rank_of(self, layer: str) -> int:
        return int(_by_pattern(self.rank_pattern, layer, self.rank))

    def scale_of(self, layer: str) -> float:
        rank = self.rank_of(layer)
        alpha = float(_by_pattern(self.alpha_pattern, layer, self.alpha))
        return alpha / (math.sqrt(rank) if self.rank_stabilized else rank)


def read_settings(path: Path, id: str) -> LoraSettings:
    """Parse and check adapter_config.json; raises AdapterMismatch for what is wrong and for what is not plain LoRA."""
    raw = json_object(path.read_bytes(), unique=False) if path.stat().st_size <= MAX_CONFIG else None
    if raw is None:
        raise AdapterMismatch("adapter_bad_config", id=id, setting=CONFIG)
    return settings_of(raw, id)


def settings_of(raw: Mapping[str, Any], id: str) -> LoraSettings:
    """The settings in a parsed adapter_config.json; raises AdapterMismatch."""
    kind = raw.get("peft_type")
    if kind != "LORA":
        raise AdapterMismatch("adapter_kind", id=id, kind=str(kind)[:40])
    _check_features(raw, id)
    log.info("adapter %s says it was trained on %.100r", id, raw.get("base_model_name_or_path"))
    rank, alpha = raw.get("r", 8), raw.get("lora_alpha", 8)
    ranks, alphas = _pattern(raw, "rank_pattern", id), _pattern(raw, "alpha_pattern", id)
    for each in (rank, *ranks.values()):
        if not isinstance(each, int) or isinstance(each, bool) or each < 1:
            raise AdapterMismatch("adapter_bad_config", id=id, setting="r")
        if each > MAX_RANK:
            raise AdapterMismatch("adapter_rank_limit", id=id, rank=each, limit=MAX_RANK)
    if not all(_is_number(each) for each in (alpha, *alphas.values())):
        raise AdapterMismatch("adapter_bad_config", id=id, setting="lora_alpha")
    layers = raw.get("layers_to_transform")
    layers = tuple(layers) if isinstance(layers, list) else () if layers is None else (layers,)
    if not all(isinstance(each, int) for each in layers):
        raise AdapterMismatch("adapter_bad_config", id=id, setting="layers_to_transform")
    pattern = raw.get("layers_pattern")
    pattern = [pattern] if isinstance(pattern, str) else pattern
    return LoraSettings(
        rank=rank,
        alpha=alpha,
        targets=_names(raw, "target_modules", id),
        excluded=_names(raw, "exclude_modules", id),
        layers=layers,
        layers_pattern=_names({"layers_pattern": pattern}, "layers_pattern", id),
        rank_pattern=ranks,
        alpha_pattern=alphas,
        rank_stabilized=raw.get("use_rslora") is True,
    )


def _check_features(raw: Mapping[str, Any], id: str) -> None:
    """Refuse what would change the result: known features the bank lacks, and unknown settings that are switched on."""
    for name in sorted(_REFUSED & set(raw)):
        if raw[name]:
            raise AdapterMismatch("adapter_feature", id=id, feature=name)
    if raw.get("bias", "none") != "none":
        raise AdapterMismatch("adapter_feature", id=id, feature="bias")
    start = raw.get("init_lora_weights", True)
    if not isinstance(start, bool) and start not in _PLAIN_INIT:
        raise AdapterMismatch("adapter_feature", id=id, feature=f"init_lora_weights={start}"[:60])
    for name in sorted(set(raw) - _SILENT - _READ - _REFUSED):
        if raw[name]:
            raise AdapterMismatch("adapter_unknown_setting", id=id, setting=name[:60])


def _names(raw: Mapping[str, Any], key: str, id: str) -> frozenset[str]:
    """A list of plain layer names. PEFT would read a single string as a regular expression, which can run for hours."""
    value = raw.get(key)
    if value is None and key != "target_modules":
        return frozenset()
    if not isinstance(value, list) or len(value) > MAX_NAMES:
        raise AdapterMismatch("adapter_targets", id=id, setting=key)
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in value):
        raise AdapterMismatch("adapter_targets", id=id, setting=key)
    return frozenset(value)


def _pattern(raw: Mapping[str, Any], key: str, id: str) -> dict[str, Any]:
    """A table of layer names; PEFT reads its keys as regular expressions, here they are names ("^" may stand first)."""
    value = raw.get(key) or {}
    if not isinstance(value, dict) or len(value) > MAX_NAMES:
        raise AdapterMismatch("adapter_bad_config", id=id, setting=key)
    names = {name.removeprefix("^"): each for name, each in value.items()}
    if not all(_NAME.fullmatch(name) for name in names):
        raise AdapterMismatch("adapter_targets", id=id, setting=key)
    return names


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _suffixed(layer: str, names: frozenset[str]) -> bool:
    """True if the layer's path ends with one of the names."""
    at = len(layer)
    while (at := layer.rfind(".", 0, at)) >= 0:
        if layer[at + 1 :] in names:
            return True
    return layer in names


def _by_pattern(pattern: Mapping[str, Any], layer: str, default: Any) -> Any:
    return next((value for name, value in pattern.items() if layer == name or layer.endswith("." + name)), default)


def _position(layer: str, patterns: frozenset[str]) -> int:
    """The number of the block a layer belongs to, as PEFT finds it, or -1."""
    parts = layer.split(".")
    found = [
        int(parts[at])
        for at in range(1, len(parts) - 1)
        if parts[at].isdecimal() and (not patterns or parts[at - 1] in patterns)
    ]
    return found[-1] if found else -1


def json_object(text: bytes, *, unique: bool = True) -> dict[str, Any] | None:
    """The object, or None if it is not one, repeats a key, nests too deep or holds NaN."""

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if unique and len(made) < len(pairs):
            raise ValueError("a key twice")
        return made

    def refuse(constant: str) -> Any:
        raise ValueError(constant)

    try:
        value = json.loads(text, object_pairs_hook=build, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
