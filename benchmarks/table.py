"""Timing and tables for the benchmarks: medians beside minima, ratios beside goals."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of repeated measurements of one thing."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def low(self) -> float:
        return min(self.seconds)

    def __str__(self) -> str:
        return f"{self.median * 1000:.2f} ms (min {self.low * 1000:.2f})"


def timed(work: Callable[[int], object], repeats: int, after: Callable[[int], object] | None = None) -> Timing:
    """Time `work(i)` for each repeat, once unmeasured first; `after(i)` tidies up outside the clock."""
    seconds = []
    for at in range(repeats + 1):
        started = time.perf_counter()
        work(at)
        seconds.append(time.perf_counter() - started)
        if after is not None:
            after(at)
    return Timing(tuple(seconds[1:]))


def show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, the first column aligned left and the others right."""
    widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells))
