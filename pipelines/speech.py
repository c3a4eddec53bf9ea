"""Speech from text, phrase by phrase: each is heard as soon as it is spoken, and shown with every stage behind it.

Knows what can be asked and what is leased for it; families of voices are in voices.py, the loop in speakers/.
"""

from __future__ import annotations

import csv
import io
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from pipelines import ears, media, speech_text, voices
from pipelines.core.errors import Cancelled, DemoError, InvalidInput, TimedOut
from pipelines.core.params import knob, model_knob, seed_knob
from pipelines.core.registry import Lease, Registry
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Job, Progress
from pipelines.round_trip import Trip, compare
from pipelines.speakers import evaluation
from pipelines.speakers.mending import Mending
from pipelines.speakers.recital import Recital
from pipelines.speakers.results import Result, Sentence, Word

__all__ = ["Params", "Queue", "Queued", "Result", "Sentence", "Speaker", "Word"]

LONGEST = 20_000  # characters of one text
MOST_LINES = 500  # in one queue
HEARD = 120.0  # seconds of sound the ears listen to


@dataclass(frozen=True, slots=True)
class Params:
    text: str = knob(lines=4, max_length=LONGEST)
    voice: str = knob("", max_length=80)
    speed: float = knob(1.0, low=0.5, high=2.0, step=0.05)
    pause: float = knob(0.4, low=0.0, high=2.0, step=0.05, advanced=True)
    volume: float = knob(1.0, low=0.1, high=2.0, step=0.05, advanced=True)
    overrides: str = knob("", max_length=4_000, advanced=True)
    lens: bool = knob(False, advanced=True)
    listen: bool = knob(False, advanced=True)
    seed: int = seed_knob()
    model: str = model_knob()


@dataclass(frozen=True, slots=True)
class Queued:
    """One line of a queue, numbered from 1: its file in the zip or "", seconds of sound, its error's code or ""."""

    line: int
    file: str
    text: str
    seconds: float
    error: str


@dataclass(frozen=True, slots=True, eq=False)
class Queue:
    """`zip` holds a sound for each line that could be spoken, and lines.csv, which names them all."""

    zip: bytes
    lines: tuple[Queued, ...]
    stopped: bool


class Speaker:
    """Reads a text aloud."""

    task: ClassVar[str] = "speech"
    Params: ClassVar[type] = Params
    Result: ClassVar[type] = Result

    def __init__(self, registry: Registry, *, lease_seconds: float) -> None:
        self.registry = registry
        self.lease_seconds = lease_seconds

    def run(self, params: Params, job: Job) -> Result:
        """Emits Preview("audio", (rate, int16 samples), n) per phrase; a stop ends it with what is spoken so far."""
        overrides = chosen(params.overrides)
        with self._voice(params, job) as (voice, lease):
            result = Recital(voice, lease, params, job, overrides).run()
        return self._heard(result, params, job)

    def respeak(self, before: Result, params: Params, job: Job) -> Result:
        """The same text with other `overrides`: only what they change is spoken again and joined in, the rest is the
        sound it was. Where more than readings differ, or the voice cannot tell when it says what, all is spoken."""
        overrides = chosen(params.overrides)
        with self._voice(params, job) as (voice, lease):
            mending = Mending(before, voice, lease, params, job, overrides)
            recital = mending if mending.possible() else Recital(voice, lease, params, job, overrides)
            result = recital.run()
        return self._heard(result, params, job)

    def compare(self, choices: Sequence[tuple[str, str]], params: Params, job: Job) -> tuple[Result, ...]:
        """The same text by several (model, voice), one after the other; those after a stop are left out."""
        results = []
        for number, (model, voice) in enumerate(choices):
            job.emit(Progress("compare", number, len(choices), voice or model))
            results.append(self.run(replace(params, model=model, voice=voice), Job(job.stop)))
            if job.stop:
                break
        return tuple(results)

    def batch(self, lines: Sequence[str], params: Params, job: Job, format: str = "wav") -> Queue:
        """A sound file for each line, WAV or FLAC; a line that cannot be spoken is named with its error's code."""
        if format not in ("wav", "flac"):
            raise InvalidInput("not_a_choice", name="format", value=format[:80], known="wav, flac")
        texts = [line.strip() for line in lines if line.strip()]
        if not texts:
            raise InvalidInput("empty", name="text")
        if len(texts) > MOST_LINES:
            raise InvalidInput("too_many_lines", name="text", count=len(texts), limit=MOST_LINES)
        with tempfile.TemporaryFile() as file:
            with zipfile.ZipFile(file, "w") as archive:  # stored: sound hardly shrinks
                rows = tuple(self._each_line(texts, params, job, archive, format))
                archive.writestr("lines.csv", _table(rows))
            file.seek(0)
            return Queue(file.read(), rows, bool(job.stop))

    def hear(self, result: Result, job: Job) -> Trip:
        """The round trip: what the ears make of a result's sound, at most its first two minutes."""
        spec = ears.card(self.registry.catalog)
        sentences = [each for each in result.sentences if each.end <= HEARD] or list(result.sentences[:1])
        sound = media.plain_sound(result.wav, sentences[-1].end if sentences else 0.0)
        job.emit(Progress("listen"))
        with self.registry.lease(spec.id, timeout=self.lease_seconds, stop=job.stop, progress=job.emit) as lease:
            heard = ears.listen(ears.of(spec, lease.model), sound, result.language, job.stop)
        return compare([word.unit for each in sentences for word in each.words], heard, result.language)

    def evaluate(self, path: Path, job: Job, **options: Any) -> dict[str, float]:
        """Figures over JSONL rows {"text", "lang"}: see speakers.evaluation."""
        return evaluation.evaluate(self, path, job, **options)

    @contextmanager
    def _voice(self, params: Params, job: Job) -> Iterator[tuple[voices.Voice, Lease]]:
        spec = self.registry.catalog.for_task(self.task, params.model)
        self._check_language(spec, params.text)
        wanted = [spec.id, *voices.helpers(spec, params.text)]
        with self.registry.lease_many(
            *((id, ()) for id in wanted), timeout=self.lease_seconds, stop=job.stop, progress=job.emit
        ) as (lease, *parts):
            family = voices.family(spec.options.get("cls", spec.loader))
            yield family(lease.model, tuple(part.model for part in parts)), lease

    def _heard(self, result: Result, params: Params, job: Job) -> Result:
        return replace(result, heard=self.hear(result, job)) if params.listen and not result.stopped else result

    def _each_line(
        self, texts: Sequence[str], params: Params, job: Job, archive: zipfile.ZipFile, format: str
    ) -> Iterator[Queued]:
        for number, text in enumerate(texts, 1):
            job.emit(Progress("queue_lines", number - 1, len(texts), text[:80]))
            try:
                result = self.run(replace(params, text=text, listen=False), Job(job.stop))
            except (Cancelled, TimedOut):
                return
            except DemoError as error:
                yield Queued(number, "", text, 0.0, error.code)
                continue
            if job.stop:
                return
            name = f"{number:03d}.{format}"
            archive.writestr(name, media.encode_sound(result.wav, format))
            yield Queued(number, name, text, result.seconds, "")

    def _check_language(self, spec: ModelSpec, text: str) -> None:
        if language := speech_text.unsupported(text, spec.languages):
            able = (s.id for s in self.registry.catalog.models(self.task) if {language, "multi"} & set(s.languages))
            known = ", ".join(able) or "–"
            raise InvalidInput("language_unsupported", language=language, id=spec.id, known=known)


def chosen(overrides: str) -> Mapping[int, str]:
    """Readings by place from "12=chong2; 30=hang2", a line or a semicolon between them; raises InvalidInput."""
    found = {}
    for item in filter(str.strip, re.split("[;；\n]", overrides)):
        match = re.fullmatch(r"\s*(\d{1,6})\s*=\s*(\S.*?)\s*", item)
        if not match:
            raise InvalidInput("bad_override", item=item.strip()[:40])
        found[int(match[1])] = match[2]
    return found


def written(overrides: Mapping[int, str]) -> str:
    """The same the other way round, for a page that collects them."""
    return "; ".join(f"{place}={wanted}" for place, wanted in sorted(overrides.items()))


def _table(rows: Sequence[Queued]) -> str:
    out = io.StringIO()
    table = csv.writer(out)
    table.writerow(["line", "file", "seconds", "error", "text"])
    table.writerows([row.line, row.file, f"{row.seconds:.2f}", row.error, row.text] for row in rows)
    return out.getvalue()
