"""What the host decided: read once at start from the environment and flags, then passed as an argument."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PREFIX = "SYNESTHESIA_"
MAX_IMAGE_PIXELS = 16_000_000
MAX_AUDIO_SECONDS = 120
MAX_UPLOAD_MB = 20


@dataclass(frozen=True, slots=True)
class Settings:
    """`budget_mb` 0 means: 60% of the free memory of the device. Times are seconds, sizes MiB."""

    root: Path
    cache: Path
    device: str = "auto"  # auto | cpu | cuda | mps
    budget_mb: int = 0
    idle_seconds: float = 1800.0  # an unused model or adapter is unloaded after this; 0: never
    offline: bool = False
    host: str = "127.0.0.1"
    port: int = 7860
    allowed_hosts: tuple[str, ...] = ()
    pin: str = ""  # classroom PIN, asked for when bound beyond loopback
    device_slots: int = 1  # jobs computing at once
    running_per_visitor: int = 1
    queued_per_visitor: int = 2
    queued_in_all: int = 64
    job_seconds: float = 600.0
    lease_seconds: float = 60.0
    drain_seconds: float = 20.0
    hub_endpoint: str = "https://huggingface.co"
    preload: tuple[str, ...] = ()
    shared_collections: bool = False  # let every visitor change the host's own collections of pictures
    mcp: bool = False  # serve the Model Context Protocol too; needs requirements-mcp.txt

    @classmethod
    def read(cls, env: Mapping[str, str] | None = None, **flags: object) -> Settings:
        """From SYNESTHESIA_* (and the Hub's own) variables; flags that are not None win. Raises ValueError."""
        env = os.environ if env is None else env
        root = Path(__file__).resolve().parents[2]
        home = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        values: dict[str, object] = {
            "root": root,
            "cache": Path(env.get(PREFIX + "CACHE") or home / "synesthesia"),
            "offline": _switch(env.get(PREFIX + "OFFLINE", env.get("HF_HUB_OFFLINE", ""))),
            "mcp": _switch(env.get(PREFIX + "MCP", "")),
            "shared_collections": _switch(env.get(PREFIX + "SHARED_COLLECTIONS", "")),
            "hub_endpoint": env.get("HF_ENDPOINT", cls.__dataclass_fields__["hub_endpoint"].default),
        }
        for name in ("device", "host", "pin"):
            if (text := env.get(PREFIX + name.upper())) is not None:
                values[name] = text
        for name in ("budget_mb", "port", "device_slots", "running_per_visitor", "queued_per_visitor", "queued_in_all"):
            if (text := env.get(PREFIX + name.upper())) is not None:
                values[name] = _number(name, text, int)
        for name in ("idle_seconds", "job_seconds", "lease_seconds", "drain_seconds"):
            if (text := env.get(PREFIX + name.upper())) is not None:
                values[name] = _number(name, text, float)
        for name in ("allowed_hosts", "preload"):
            values[name] = tuple(part for part in env.get(PREFIX + name.upper(), "").split(",") if part)
        if space := env.get("SPACE_HOST"):
            values["allowed_hosts"] = (*values["allowed_hosts"], space)  # type: ignore[misc]
        values.update({name: value for name, value in flags.items() if value is not None})
        return cls(**values)  # type: ignore[arg-type]


def _number(name: str, text: str, kind: type[int] | type[float]) -> float:
    try:
        number = kind(text)
    except ValueError:
        raise ValueError(f"{PREFIX}{name.upper()}={text!r} is not a number") from None
    if not 0 <= number < float("inf"):
        raise ValueError(f"{PREFIX}{name.upper()}={text!r} is out of range")
    return number


def _switch(text: str) -> bool:
    return text.strip().lower() in ("1", "true", "yes", "on")
