"""Figures of a voice over a file of sentences, by the ears where there are any. Knows the task through its class."""

from __future__ import annotations

import logging
import shutil
import statistics
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import ears, media, reading
from pipelines.core.errors import InvalidInput, ModelLoadFailed, ModelTooLarge
from pipelines.core.params import build
from pipelines.core.streaming import Job, Progress
from pipelines.metrics import read_rows
from pipelines.round_trip import compare
from pipelines.speakers.results import Result

log = logging.getLogger(__name__)

RATES = {"en": "wer", "zh": "cer"}
FORMANT = {"en": "en-us", "zh": "cmn"}  # espeak-ng's voices


@dataclass(frozen=True, slots=True)
class Row:
    text: str
    language: str


def evaluate(speaker: Any, path: Path, job: Job, *, limit: int = 0, **options: Any) -> dict[str, float]:
    """Over JSONL rows {"text", "lang": "en" | "zh"}, at most `limit` of them, evenly spread; `options` are knobs.

    `wer` (English) and `cer` (Chinese): errors of all rows over their length, where ears are installed, and the same of
    formant synthesis as `baseline_…` where espeak-ng is; `rtf`, `first_audio` (seconds, median), `clipped` (share of
    the samples); over the seams between phrases the mean sizes of `seam_click` (1 = full scale), `seam_energy` (dB),
    `seam_pitch` (semitones) and `seam_timbre` (dB); `tones_right`: share of the syllables whose tone is not marked.
    """
    rows = read(path)
    if 0 < limit < len(rows):
        rows = [rows[round(at)] for at in np.linspace(0, len(rows) - 1, limit)]
    with tempfile.TemporaryDirectory(prefix="speech-") as folder:
        results = []
        for done, row in enumerate(rows):
            job.check()
            job.emit(Progress("evaluate", done, len(rows), row.text[:80]))
            asked = {"seed": 0, "model": _model(speaker, row.language), **options, "text": row.text, "lens": True}
            result = speaker.run(build(speaker.Params, asked), Job(job.stop))
            job.check()
            (Path(folder) / str(done)).write_bytes(result.wav)
            results.append(replace(result, wav=b""))
        return _speaking(results) | _hearing(speaker, rows, results, Path(folder), job)


def read(path: Path) -> list[Row]:
    """The rows; raises InvalidInput for one without a text or in another language."""
    found = []
    for at, row in enumerate(read_rows(path), 1):
        text = row.get("text", "").strip()
        language = row.get("lang") or reading.language_of(text)
        if not text or language not in RATES:
            raise InvalidInput("bad_row", line=at, need="text" if not text else "lang: en | zh")
        found.append(Row(text, language))
    return found


def _model(speaker: Any, language: str) -> str:
    """The default model if it speaks the language, else the first that does."""
    catalog = speaker.registry.catalog
    specs = (catalog.default(speaker.task), *catalog.models(speaker.task))
    return next((spec.id for spec in specs if {language, "multi"} & set(spec.languages)), specs[0].id)


def _speaking(results: list[Result]) -> dict[str, float]:
    seconds = sum(result.seconds for result in results)
    computed = sum(result.made.seconds for result in results)
    seams = [seam for result in results for seam in result.seams]
    figures = {
        "n": len(results),
        "seconds_per_item": computed / len(results),
        "rtf": computed / seconds,
        "first_audio": statistics.median(result.first_audio for result in results),
        "clipped": sum(result.clipped * result.seconds for result in results) / seconds,
        "seams": len(seams),
    }
    for name in ("click", "energy", "pitch", "timbre"):
        values = [abs(getattr(seam, name)) for seam in seams]
        figures |= {f"seam_{name}": float(np.mean(values))} if values else {}
    tones = [toned for result in results for toned in result.tones if toned.heard]
    figures |= {"tones_right": 1 - sum(toned.wrong for toned in tones) / len(tones)} if tones else {}
    return figures


def _hearing(speaker: Any, rows: list[Row], results: list[Result], folder: Path, job: Job) -> dict[str, float]:
    """Error rates by the ears, or none where they cannot be loaded here."""
    errors: Counter[str] = Counter()
    with ExitStack() as stack:
        try:
            spec = ears.card(speaker.registry.catalog)
            lease = stack.enter_context(
                speaker.registry.lease(spec.id, timeout=speaker.lease_seconds, stop=job.stop, progress=job.emit)
            )
        except (ModelLoadFailed, ModelTooLarge) as error:
            log.warning("no error rates: %s", error)
            return {}
        listener = ears.of(spec, lease.model)
        for done, (row, result) in enumerate(zip(rows, results, strict=True)):
            job.check()
            job.emit(Progress("listen", done, len(rows), row.text[:80]))
            units = [word.unit for sentence in result.sentences for word in sentence.words]
            for name, wav in _versions(row, (folder / str(done)).read_bytes()):
                heard = ears.listen(listener, media.plain_sound(wav), row.language, job.stop)
                trip = compare(units, heard, row.language)
                errors[name] += trip.errors
                errors[f"{name}/n"] += trip.count
    return {name: errors[name] / max(1, errors[f"{name}/n"]) for name in errors if not name.endswith("/n")}


def _versions(row: Row, wav: bytes) -> Iterator[tuple[str, bytes]]:
    """The voice's sound and, where it is installed, that of formant synthesis."""
    yield RATES[row.language], wav
    if program := shutil.which("espeak-ng"):
        command = [program, "-v", FORMANT[row.language], "--stdin", "--stdout"]
        made = subprocess.run(command, input=row.text.encode(), capture_output=True, timeout=60, check=True)
        yield f"baseline_{RATES[row.language]}", made.stdout
