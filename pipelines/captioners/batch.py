"""Many pictures, one row each, and the rows as a table. Knows files and captions, no model."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from PIL import Image

from pipelines import media
from pipelines.captioners.plan import FamilyScore
from pipelines.core.errors import Cancelled, InvalidInput, TimedOut
from pipelines.core.specs import Made
from pipelines.core.streaming import Job, Progress
from pipelines.picture_files import Source

MAX_BATCH = 1_000  # pictures
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet computes a cell that begins with one of these


@dataclass(frozen=True, slots=True)
class Row:
    """One picture: the captions there are, "" for the others; or the code of what was wrong with the file."""

    file: str
    neural: str = ""
    retrieval: str = ""
    template: str = ""
    logprob: float | None = None  # of the neural caption
    neural_clip: float | None = None  # CLIP-scores
    retrieval_clip: float | None = None
    template_clip: float | None = None
    error: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)  # what the error's words need


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows in the order of the files; `stopped`: there were more. `made` counts the seconds of all; None where
    nothing could be read."""

    rows: tuple[Row, ...]
    stopped: bool
    made: Made | None


@dataclass(frozen=True, slots=True)
class Captioned:
    """What is kept of one picture's Result."""

    captions: Mapping[str, str]  # by family
    logprob: float | None
    scores: Sequence[FamilyScore]
    made: Made


def run(sources: Sequence[Source], caption: Callable[[Image.Image, Job], Captioned], job: Job) -> Batch:
    """Caption one file after the other. A broken one gets a row that says so; a stop keeps the rows so far.

    Raises InvalidInput for no files or too many, and whatever `caption` raises.
    """
    if not sources:
        raise InvalidInput("no_pictures")
    if len(sources) > MAX_BATCH:
        raise InvalidInput("too_many_images", count=len(sources), limit=MAX_BATCH)
    rows: list[Row] = []
    made = None
    quiet = Job(job.stop)
    with media.Decoder() as decoder:
        for at, source in enumerate(sources):
            job.emit(Progress("batch", at, len(sources), source.name))
            try:
                image = decoder.decode(source.read())
            except InvalidInput as error:
                rows.append(Row(source.name, error=error.code, details=error.params))
                continue
            try:
                told = caption(image, quiet)
                job.check()
            except (Cancelled, TimedOut):
                break
            made = replace(told.made, seconds=told.made.seconds + (made.seconds if made else 0.0))
            rows.append(_row(source.name, told))
    job.emit(Progress("batch", len(rows), len(sources)))
    return Batch(tuple(rows), len(rows) < len(sources), made)


def table(rows: Sequence[Row]) -> str:
    """The rows as CSV with a header, ready for a spreadsheet: no cell of text is taken for a formula."""
    out = io.StringIO()
    names = [each.name for each in fields(Row) if each.name != "details"]
    writer = csv.writer(out)
    writer.writerow(names)
    writer.writerows([_cell(getattr(row, name)) for name in names] for row in rows)
    return out.getvalue()


def _row(file: str, told: Captioned) -> Row:
    clips = {f"{score.family}_clip": score.clip for score in told.scores}
    return Row(file, **told.captions, logprob=told.logprob, **clips)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA) else text
