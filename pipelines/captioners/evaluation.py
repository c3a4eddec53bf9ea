"""How well captions and answers fit what people wrote, over a file of pictures. Knows no model: it asks a captioner.

The file has one JSON object a line, all of one kind: pictures with a caption in each language (picture_rows.py),
{"image", "captions": [references]} or {"image", "question", "answers": [answers of several people]}.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import media
from pipelines.captioners import metrics
from pipelines.captioners.plan import FAMILIES
from pipelines.captioners.vqa import vqa_accuracy
from pipelines.core.errors import InvalidInput
from pipelines.core.params import build, knob
from pipelines.core.streaming import Event, Job, Progress
from pipelines.gallery import MODEL as STARTER
from pipelines.metrics import read_records
from pipelines.picture_rows import PictureRow, open_picture, row, strings


@dataclass(frozen=True, slots=True)
class How:
    """What is evaluated. `gallery`: where the retrieval family may look, never at the picture itself: everywhere, or
    only among the concepts that the starter model was trained on ("seen").
    """

    method: str = knob("neural", choices=(*FAMILIES, "all"))
    language: str = knob("auto", choices=("auto", "en", "zh"))  # of the captions; auto: English
    limit: int = knob(0, low=0, high=10_000_000, step=1)  # pictures, evenly spread over the file; 0: all
    gallery: str = knob("all", choices=("all", "seen"))

    @property
    def families(self) -> tuple[str, ...]:
        return FAMILIES if self.method == "all" else (self.method,)


MOST_TEXT = 2_000  # characters of references that a captioner takes
OPTIONS = tuple(How.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Example:
    """One picture, and what people said of it: captions, or answers where there is a question."""

    row: PictureRow
    references: tuple[str, ...]
    language: str  # to write in: one of "auto", "en", "zh"
    question: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What one family said of one picture: the caption, with the other beams, and its CLIP-score if there is one."""

    caption: str
    beam: tuple[str, ...]
    clip: float | None


def evaluate(captioner: Any, path: Path, job: Job, **options: Any) -> dict[str, float]:
    """Of captions: n; bleu1 to bleu4, meteor (exact + stem), rouge_l, cider, exact, exact_in_beam (neural) and
    clip_score of each method, with its name before them where there are several; chance_exact; seconds_per_item
    (computing only, CLIP-scores included). Of questions: n, vqa_accuracy, seconds_per_item. The starter model makes
    the CLIP-scores: there are none where another model writes alone.

    `captioner` is pipelines.captioning's. `options`: those of How, and fields of Params; captions are decoded by beam
    search unless told otherwise. Emits Progress("evaluate", …); raises InvalidInput for a bad line, Cancelled on a
    stop.
    """
    how = build(How, {name: options.pop(name) for name in OPTIONS if name in options})
    examples = _some(read(path, how.language), how.limit)
    asks = bool(examples[0].question)
    if asks and how.method != "neural":
        raise InvalidInput("not_a_choice", name="method", value=how.method, known="neural")
    decoding = {} if asks else {"decoding": "beam"}
    with media.Decoder() as decoder:
        pictures = (open_picture(path, example.row, decoder) for example in examples)
        told, seconds = _tell(captioner, examples, pictures, how, {**decoding, **options}, job)
    references = [example.references for example in examples]
    found = {"n": float(len(examples))}
    if asks:
        pairs = zip(told, references, strict=True)
        found["vqa_accuracy"] = _mean([vqa_accuracy(said[0].caption, answers) for said, answers in pairs])
    else:
        for family, said in zip(how.families, zip(*told, strict=True), strict=True):
            before = f"{family}_" if how.method == "all" else ""
            found |= {before + name: value for name, value in _figures(family, said, references).items()}
        found["chance_exact"] = chance(references)
    return {**found, "seconds_per_item": seconds / len(examples)}


def read(path: Path, language: str = "auto") -> list[Example]:
    """The file's examples; rows without a caption of the language are passed over. Raises InvalidInput with the line
    of a bad row, or if there is none left.
    """
    records = read_records(path)
    read_one = _kind(records[0][1])
    examples = [read_one(row(path, line, record), record, line, language) for line, record in records]
    found = [example for example in examples if example.references]
    if not found:
        raise InvalidInput("no_rows_in_language", path=path.name, language=language)
    return found


def chance(references: Sequence[Sequence[str]]) -> float:
    """How often the caption of a picture drawn at random is exactly one of a picture's references."""
    firsts = Counter(plain(many[0]) for many in references)
    wanted = [{plain(text) for text in many} for many in references]
    return _mean([sum(firsts[text] for text in texts) / len(references) for texts in wanted])


def plain(text: str) -> str:
    """As two captions are compared for being the same: without case, spaces and the final full stop."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".。")


# -- reading ---------------------------------------------------------------------------------------


def _kind(record: Mapping[str, Any]) -> Any:
    """How the rows of this file are read, from the first of them."""
    if "answers" in record:
        return _answers
    return _captions if "captions" in record and "caption_en" not in record else _picture


def _answers(row: PictureRow, record: Mapping[str, Any], line: int, language: str) -> Example:
    answers, question = strings(record, "answers", line), record.get("question")
    if not answers or not isinstance(question, str) or not question.strip():
        raise InvalidInput("bad_row", line=line, need="image, question, answers")
    return Example(row, answers, language, question)


def _captions(row: PictureRow, record: Mapping[str, Any], line: int, language: str) -> Example:
    captions = strings(record, "captions", line)
    if not captions:
        raise InvalidInput("bad_row", line=line, need="image, captions")
    return Example(row, captions, language)


def _picture(row: PictureRow, record: Mapping[str, Any], line: int, language: str) -> Example:
    if not row.caption_en and not row.caption_zh:
        raise InvalidInput("bad_row", line=line, need="image, caption_en")
    language = "zh" if language == "zh" else "en"
    caption = row.caption(language)
    return Example(row, (caption,) if caption else (), language)


def _some(examples: list[Example], limit: int) -> list[Example]:
    if not limit or limit >= len(examples):
        return examples
    return [examples[at * len(examples) // limit] for at in range(limit)]


# -- asking ----------------------------------------------------------------------------------------


def _tell(
    captioner: Any, examples: Sequence[Example], pictures: Iterable[Any], how: How, options: Mapping[str, Any], job: Job
) -> tuple[list[tuple[Told, ...]], float]:
    """What each family said of each picture, and the seconds in all. The registry keeps the models in between."""
    hidden = _hidden(captioner, how)
    scored = captioner.registry.catalog.for_task(captioner.task, options.get("model", "")).id == STARTER
    told, seconds = [], 0.0
    for at, (example, picture) in enumerate(zip(examples, pictures, strict=True), 1):
        job.check()
        asked = {"family": how.method, "language": example.language, "question": example.question, **options}
        if scored and not example.question:  # given references, the starter model makes the CLIP-score as well
            asked["references"] = "\n".join(example.references)[:MOST_TEXT]
        params = build(captioner.Params, {**asked, "image": picture})
        result = captioner.run(params, _quiet(job), leave_out=hidden | {example.row.id})
        job.check()  # a stopped run gives half a caption
        told.append(tuple(_told(result, family) for family in how.families))
        seconds += result.made.seconds
        job.emit(Progress("evaluate", at, len(examples)))
    return told, seconds


def _hidden(captioner: Any, how: How) -> frozenset[str]:
    """Gallery items that the retrieval family may not use for any picture."""
    if how.gallery == "all" or "retrieval" not in how.families:
        return frozenset()
    return frozenset(item.id for item in captioner.gallery.items if item.unseen)


def _quiet(job: Job) -> Job:
    """The same stop; of the progress only what comes before computing, such as a model being loaded."""

    def pass_on(event: Event) -> None:
        if isinstance(event, Progress) and event.stage != "run":
            job.emit(event)

    return Job(job.stop, pass_on)


def _told(result: Any, family: str) -> Told:
    clip = next((score.clip for score in result.scores if score.family == family), None)
    if family == "template":
        assert result.template is not None
        return Told(result.template.caption, (), clip)
    if family == "retrieval":
        assert result.retrieved is not None
        return Told(result.retrieved.caption, (), clip)
    return Told(result.caption, tuple(other.text for other in result.alternatives), clip)


# -- figures ---------------------------------------------------------------------------------------


def _figures(family: str, told: Sequence[Told], references: Sequence[Sequence[str]]) -> dict[str, float]:
    wanted = [{plain(text) for text in many} for many in references]
    pairs = list(zip(told, wanted, strict=True))
    found = metrics.figures([one.caption for one in told], references)
    found["exact"] = _mean([plain(one.caption) in want for one, want in pairs])
    if family == "neural":
        found["exact_in_beam"] = _mean(
            [any(plain(text) in want for text in (one.caption, *one.beam)) for one, want in pairs]
        )
    clips = [one.clip for one in told if one.clip is not None]
    return found | ({"clip_score": _mean(clips)} if clips else {})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
