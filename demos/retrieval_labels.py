"""The section in which one's own labels are weighed against a picture, without training: zero-shot classification."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from demos import cards
from demos.edge import Edge, Updates
from demos.errands import Errand, Shown
from demos.retrieval_pictures import files_of
from demos.text import label, say
from demos.widgets import PICTURE_SOURCES, paths_only
from pipelines import media
from pipelines.core.errors import InvalidInput
from pipelines.core.streaming import Job
from pipelines.house import House

TOP = 20  # labels shown
PICTURE = "noto/1F34F"  # of the gallery: a green apple
LABELS = {"en": "apple\npear\nball\nheart\nface\ncar", "zh": "苹果\n梨\n球\n心\n脸\n汽车"}
TEMPLATES = {"en": "{}\nred {}\ngreen {}", "zh": "{}\n红色的{}\n绿色的{}"}


def classified(house: House, raw: dict[str, Any], visitor: str, job: Job) -> Any:
    """The labels' probabilities; the picture comes as a file."""
    if not raw["image"]:
        raise InvalidInput("empty", name="image")
    image = media.decode("image", Path(raw["image"]))
    labels, templates = raw["labels"].splitlines(), raw["templates"].splitlines()
    return house.pipeline("retrieval").classify(image, labels, templates, job, model=raw["model"])


def per_template(made: Any, lang: str) -> str:
    """What each template alone would have said."""
    if len(made.templates) < 2:
        return ""
    rows = []
    for template, shares in zip(made.templates, made.per_template, strict=True):
        best = max(range(len(shares)), key=shares.__getitem__)
        text = template.replace("{}", made.labels[best])
        rows.append([f"<code>{cards.escape(template)}</code>", cards.escape(text), cards.percent(shares[best])])
    return cards.table([say(f"retrieval_template_{key}", lang) for key in ("alone", "best", "probability")], rows)


class Labels:
    """The section; `wire` when the picker of models is there."""

    def __init__(self, edge: Edge) -> None:
        self.house = edge.house
        self.errand = Errand(edge, "retrieval", "labels")
        gr.Markdown(label("retrieval_labels_help"))
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=300):
                self.image = paths_only(
                    gr.Image(
                        type="filepath",
                        image_mode=None,
                        sources=PICTURE_SOURCES,
                        height=220,
                        label=label("retrieval_labels_image"),
                        elem_id="retrieval-labels-image",
                    )  # fmt: skip
                )
                gr.HTML(cards.both("retrieval_photos"), elem_classes="caption")
                self.labels = gr.Textbox(
                    label=label("retrieval_labels_labels"), lines=6, max_lines=12, elem_id="retrieval-labels-labels"
                )
                self.templates = gr.Textbox(
                    label=label("retrieval_labels_templates"), info=label("retrieval_labels_templates_info"),
                    lines=3, max_lines=8, elem_id="retrieval-labels-templates",
                )  # fmt: skip
            with gr.Column(scale=1, min_width=300):
                self.errand.buttons()
                self.scores = gr.Label(
                    num_top_classes=TOP, label=label("retrieval_labels_scores"), buttons=[],
                    elem_id="retrieval-labels-scores",
                )  # fmt: skip
                self.alone = gr.HTML(elem_id="retrieval-labels-alone")
                self.errand.made()

    def wire(self, model: Any) -> None:
        self.errand.on(
            [self.errand.go.click],
            lambda image, labels, templates, id: {
                "image": image,
                "labels": labels,
                "templates": templates,
                "model": id,
            },
            partial(classified, self.house),
            lambda raw, lang: Shown(partial(self._show, lang)),
            inputs=[self.image, self.labels, self.templates, model],
            outputs=[self.scores, self.alone],
        )

    @property
    def outputs(self) -> list[Any]:
        return [self.image, self.labels, self.templates]

    def fresh(self, lang: str, folder: Path) -> Updates:
        """An example, in the page's language."""
        return {
            self.image: next(iter(files_of([PICTURE], folder)), None),
            self.labels: LABELS[lang],
            self.templates: TEMPLATES[lang],
        }

    def _show(self, lang: str, made: Any) -> Updates:
        scores = dict(zip(made.labels, made.probabilities, strict=True))
        return {self.scores: scores, self.alone: per_template(made, lang)}
