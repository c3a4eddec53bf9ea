"""What a model card and an adapter card say. One TOML file each in pipelines/catalog; nothing here loads anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TASKS = ("captioning", "text_to_image", "retrieval", "speech", "emotion", "reasoning")
TIERS = ("starter", "laptop", "gpu", "big")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model as the catalogue declares it.

    `source` is "hf:org/name", "dir:assets/weights/name" or "pip:module/file". `revision` is a commit for hf
    sources, never a branch; empty where the commit is not known, and then `note` says so. A pip source of several
    files, or of files in parts, has the option `join = {file = ["module/part", ...]}`.
    """

    id: str  # = file name
    task: str  # the pipeline that may use it
    loader: str  # key of house.LOADERS
    source: str
    size_mb: int  # estimate for admission; the measured size replaces it after the load
    title: Mapping[str, str]  # {en=..., zh=...}
    license: str  # SPDX id where there is one
    tier: str  # one of TIERS
    parameters_m: float  # millions
    languages: tuple[str, ...]  # of its text side: "en", "zh", "multi"
    also: tuple[str, ...] = ()  # other tasks served by the same loaded copy
    revision: str = ""
    restricted: bool = False  # the licence limits use (non-commercial, responsible-AI terms …)
    default: bool = False  # the model a task starts with, once
    part: bool = False  # never chosen by a person: a vocoder, a re-ranker, leased together with another model
    requires: tuple[str, ...] = ()  # importable modules of an optional extra or weights wheel
    note: Mapping[str, str] = field(default_factory=dict)  # known weaknesses, said plainly
    scores: Mapping[str, float] = field(default_factory=dict)  # held-out figures
    scores_command: str = ""  # the command that made them
    sha256: Mapping[str, str] = field(default_factory=dict)  # file -> hash, where known
    options: Mapping[str, Any] = field(default_factory=dict)  # the loader's own, checked by it

    def serves(self, task: str) -> bool:
        return task == self.task or task in self.also

    @property
    def size(self) -> int:
        """Estimated bytes in memory."""
        return self.size_mb * 2**20


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """One adapter: a small set of weights for one base model. Uploads have an `owner`, who alone may use them."""

    id: str
    base: str  # id of a model
    source: str
    title: Mapping[str, str]
    license: str
    size_mb: float
    revision: str = ""
    weight: float = 1.0  # where its slider starts
    trigger: str = ""  # words that wake it
    restricted: bool = False
    owner: str = ""
    note: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    scores_command: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Estimated bytes in memory."""
        return int(self.size_mb * 2**20)


@dataclass(frozen=True, slots=True)
class AdapterUse:
    """An adapter at a weight in [-2, 2] for one request."""

    id: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Made:
    """What made a result: shown under every one of them. `device` as torch names it, `seconds` of computing."""

    model: str
    revision: str
    adapters: tuple[AdapterUse, ...]
    seed: int | None
    device: str
    seconds: float
    cold: bool = False  # the model or an adapter had to be loaded for it
    tier: str = ""
