"""The shape every task has: Params, Result, a class with run(). Knows no task by name."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pipelines.core.registry import Registry
from pipelines.core.streaming import Job


class Pipeline(Protocol):
    """One task over the registry. Made once; holds no visitor's state."""

    task: ClassVar[str]
    Params: ClassVar[type]
    Result: ClassVar[type]

    def __init__(self, registry: Registry, *, lease_seconds: float) -> None: ...

    def run(self, params: Any, job: Job) -> Any:
        """Do the job and return a Result; emits events as it goes and polls `job.stop` at every step."""

    def evaluate(self, path: Path, job: Job, **options: Any) -> dict[str, float]:
        """Figures over a labelled file, as flat numbers (`n`, `accuracy`, …)."""


def seed_or_fresh(seed: int) -> int:
    """The seed asked for, or a fresh one for -1."""
    return seed if seed >= 0 else secrets.randbelow(2**31)
