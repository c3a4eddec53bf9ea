"""Which device computes, and how much of its memory models may fill. Knows no model."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from pipelines.core.errors import InvalidInput

SHARE = 0.6  # of what is available now: the rest is working memory
_CGROUP = Path("/sys/fs/cgroup")


def choose_device(name: str) -> str:
    """The torch device for "auto", "cpu", "cuda" or "mps"; raises InvalidInput for one that is not there."""
    present = _present()
    if name == "auto":
        return present[0]
    if name.partition(":")[0] not in present:
        raise InvalidInput("no_device", device=name[:40], known=", ".join(["auto", *present]))
    return name


def spare_a_core() -> None:
    """Leave one core to the page and the browser beside it: with all of them, torch's threads wait for each other,
    and a chat that shares a two-core laptop with a browser is many times slower. OMP_NUM_THREADS, if set, decides.

    To be called before torch is imported, which reads it once for all threads.
    """
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores - 1)))


def _present() -> list[str]:
    import torch

    found = ["cuda"] if torch.cuda.is_available() else []
    found += ["mps"] if torch.backends.mps.is_available() else []
    return [*found, "cpu"]


def default_budget(device: str) -> int:
    """Bytes models may take together: 60 % of what the device has available now."""
    kind = device.partition(":")[0]
    if kind == "cpu":
        return int(SHARE * available_memory())
    import torch

    if kind == "cuda":
        return int(SHARE * torch.cuda.mem_get_info(device)[0])
    return int(SHARE * torch.mps.recommended_max_memory())


def available_memory() -> int:
    """Bytes of main memory a new allocation may take: the machine's, or less where a container sets a limit."""
    machine = psutil.virtual_memory().available
    limit, used = _read_bytes(_CGROUP / "memory.max"), _read_bytes(_CGROUP / "memory.current")
    if limit is None or used is None:
        return machine
    return max(0, min(machine, limit - used))


def _read_bytes(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" means no limit
