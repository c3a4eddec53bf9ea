"""Many pictures described at once: files, a folder or a zip in, a CSV out. Knows files and rows, no model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from demos import cards
from demos.edge import Updates, Work
from demos.errands import Errand
from demos.replies import explain
from demos.rest import save
from demos.text import label, say
from demos.widgets import Form
from pipelines.captioners.batch import Batch, Row, table
from pipelines.captioners.plan import FAMILIES
from pipelines.core.errors import InvalidInput
from pipelines.core.streaming import Event, Job
from pipelines.house import House
from pipelines.picture_files import sources

TASK = "captioning"
SHOWN = 20  # rows on the page; the file has all
BLANK = Image.new("RGB", (1, 1))  # stands for the pictures while everything else that was asked is checked


class Rows:
    """What one batch shows: its first rows, and the file."""

    def __init__(self, parts: dict[str, Any], lang: str) -> None:
        self.parts = parts
        self.lang = lang

    def start(self) -> Updates:
        return {self.parts["rows"]: "", self.parts["file"]: gr.update(value=None, visible=False)}

    def after(self, event: Event) -> Updates:
        return {}

    def done(self, result: Batch) -> Updates:
        data = "\ufeff" + table(result.rows)  # the mark tells spreadsheets that it is UTF-8
        file = gr.update(value=save(data.encode(), "csv")["path"], visible=True) if result.rows else gr.update()
        return {self.parts["rows"]: preview(result.rows, self.lang), self.parts["file"]: file}


def preview(rows: Sequence[Row], lang: str) -> str:
    """The first rows; a broken file's says what is wrong with it."""
    told = [name for name in FAMILIES if any(getattr(row, name) for row in rows)] or [FAMILIES[0]]
    heads = [say("captioning_head_file", lang), *(say(f"captioning_family_{name}", lang) for name in told)]
    made = [[cards.escape(row.file), *_cells(row, told, lang)] for row in rows[:SHOWN]]
    broken = sum(bool(row.error) for row in rows)
    line = say("captioning_batch_told", lang, count=len(rows), broken=broken, shown=len(made))
    return cards.hint(line) + cards.table(heads, made, "wide" if len(told) > 1 else "")


def _cells(row: Row, told: Sequence[str], lang: str) -> list[str]:
    if not row.error:
        return [cards.escape(getattr(row, name)) for name in told]
    wrong = cards.escape(explain(InvalidInput(row.error, **row.details), lang))
    return [f'<span class="wrong">{wrong}</span>', *[""] * (len(told) - 1)]


def add_batch(form: Form) -> None:
    """The part of the page, with the settings of `form` for every picture; call it when all its fields are placed."""
    with gr.Accordion(label("captioning_batch"), open=False, elem_id="captioning-batch"):
        gr.Markdown(label("captioning_batch_help"))
        with gr.Row():
            files = _files("files", file_count="multiple", file_types=["image", ".zip"])
            folder = _files("folder", file_count="directory")
        errand = Errand(form.edge, TASK, "batch")
        errand.buttons()
        parts = {
            "rows": gr.HTML(elem_id="captioning-batch-rows"),
            "file": gr.DownloadButton(label("captioning_batch_csv"), visible=False, elem_id="captioning-batch-csv"),
        }
        errand.made()

    def raw(files: list[str], folder: list[str], *values: Any) -> dict[str, Any]:
        return {"files": [Path(path) for path in (*files, *folder)], "values": form.raw(*values)}

    errand.on(
        [errand.go.click],
        raw,
        describe_all(form.house),
        lambda raw, lang: Rows(parts, lang),
        inputs=[files, folder, *form.inputs],
        outputs=list(parts.values()),
    )


def _files(name: str, **options: Any) -> gr.File:
    """Files as they came: whatever is no picture gets a row that says so, rather than Gradio's refusal of them all."""
    words, id = label(f"captioning_batch_{name}"), f"captioning-batch-{name}"
    box = gr.File(label=words, height=150, min_width=150, elem_id=id, **options)
    box.preprocess = lambda payload: [file.path for file in payload.root] if payload else []
    return box


def describe_all(house: House) -> Work:
    """The work of a batch: what was asked is checked as for a single picture before the first is read."""

    def work(raw: dict[str, Any], visitor: str, job: Job) -> Batch:
        asked = {name: value for name, value in raw["values"].items() if name != "image"}
        house.params(TASK, {**asked, "image": BLANK}, visitor)
        return house.pipeline(TASK).batch(sources(raw["files"], folders=False), asked, job)

    return work
