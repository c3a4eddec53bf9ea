"""What the command line shows: JSON for machines, a few plain lines for people, progress on stderr."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from demos.plain import plain
from demos.replies import explain
from demos.text import say
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Progress
from pipelines.house import House
from pipelines.media import encode_sound


class Teller:
    """Progress on stderr: a line that is written over on a terminal, a line per stage elsewhere."""

    def __init__(self, lang: str) -> None:
        self._lang = lang
        self._live = sys.stderr.isatty()
        self._stage = ""
        self._last = 0.0

    def tell(self, progress: Progress) -> None:
        changed = progress.stage != self._stage
        now = time.monotonic()
        if not changed and (not self._live or now - self._last < 0.1):
            return
        self._stage, self._last = progress.stage, now
        amount = f" {progress.done:.0f}/{progress.total:.0f}" if progress.total else ""
        line = say(f"stage_{progress.stage}", self._lang) + amount + (f" {progress.detail}" if progress.detail else "")
        sys.stderr.write(f"\r\x1b[K{line}" if self._live else f"{line}\n")
        sys.stderr.flush()

    def clear(self) -> None:
        if self._live and self._stage:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
        self._stage = ""


def show(
    task: str, result: Any, lang: str, *, as_json: bool, output: Path | None = None, names: Sequence[str] = ()
) -> None:
    """Write a Result: its files to `output`, the rest to stdout."""
    files = _Files(output)
    value = plain(result, files.save)
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
        return
    for line in _LINES[task](value, lang, files.written, names):
        sys.stdout.write(line + "\n")
    made = value["made"]
    seconds = f"{made['seconds']:.1f}"
    sys.stderr.write(say("cli_made", lang, model=made["model"], device=made["device"], seconds=seconds))
    sys.stderr.write(f" · seed {made['seed']}\n" if made["seed"] is not None else "\n")


class _Files:
    """Where a result's files go: the first to the name asked for, the others beside it; arrays are only counted."""

    def __init__(self, output: Path | None) -> None:
        self._output = output
        self.written: list[str] = []

    def save(self, data: bytes, ending: str) -> dict[str, Any]:
        about = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if self._output is None or ending not in ("png", "wav"):
            return about
        number = len(self.written) + 1
        path = self._output if number == 1 else self._output.with_stem(f"{self._output.stem}-{number}")
        path.write_bytes(encode_sound(data, "flac") if path.suffix.lower() == ".flac" else data)
        self.written.append(str(path))
        return {"path": str(path), **about}


def _chat(value: Any, *_: Any) -> list[str]:
    return [""]  # the text has been streamed


def _caption(value: Any, *_: Any) -> list[str]:
    return [value["caption"]]


def _files(value: Any, lang: str, files: Sequence[str], *_: Any) -> list[str]:
    return list(files)


def _hits(value: Any, lang: str, files: Sequence[str], names: Sequence[str]) -> list[str]:
    found = [names[hit["index"]] if names else f"{hit['id']}  {hit['caption']}" for hit in value["hits"]]
    return [f"{hit['score']:+.3f}  {name}" for hit, name in zip(value["hits"], found, strict=True)]


def _emotion(value: Any, *_: Any) -> list[str]:
    return [json.dumps(channel, ensure_ascii=False) for channel in value["channels"]]


_LINES: dict[str, Callable[..., list[str]]] = {
    "reasoning": _chat,
    "captioning": _caption,
    "speech": _files,
    "text_to_image": _files,
    "retrieval": _hits,
    "emotion": _emotion,
}


def figures(values: Mapping[str, float], *, as_json: bool) -> None:
    """An evaluation's flat figures."""
    if as_json:
        sys.stdout.write(json.dumps(plain(values, lambda data, _: len(data))) + "\n")
        return
    for name, value in values.items():
        sys.stdout.write(f"{name:20} {value:g}\n")


def models(house: House, lang: str, *, as_json: bool) -> None:
    """The catalogue: what there is, what can be used here, and why not."""
    from demos.catalogue import catalogue

    rows = catalogue(house)
    if as_json:
        sys.stdout.write(json.dumps(rows, ensure_ascii=False) + "\n")
        return
    for row in rows:
        spec = house.catalog.model(row["id"])
        mark = "*" if row["default"] else " "
        licence = f"{spec.license}, {say('cli_restricted', lang)}" if spec.restricted else spec.license
        about = f"{row['size_mb']:>7} MB  {','.join(spec.languages):8} {licence:28}"
        sys.stdout.write(f"{mark} {row['task']:14} {row['id']:28} {row['tier']:8} {about} {state(house, spec, lang)}\n")


def state(house: House, spec: ModelSpec, lang: str) -> str:
    """Whether a model can be used here: ready, after a download, or why not."""
    if missing := house.sources.missing(spec):
        return explain(missing, lang)
    return say("cli_ready", lang) if house.sources.here(spec) else say("cli_download", lang, size_mb=spec.size_mb)
