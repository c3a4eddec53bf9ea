"""Widgets made from declarations: a Form has one field per knob of a task, a model picker and its adapters.

Knows knobs and cards, not what a task does. Files are handed on as paths: Gradio must not decode them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gradio as gr

from demos import cards
from demos.edge import Edge
from demos.look import SAMPLES
from demos.text import label, messages
from demos.visitor import visitor_of
from pipelines.core.params import MAX_ADAPTERS, Knob, knobs
from pipelines.core.specs import AdapterSpec
from pipelines.core.streaming import Stop
from pipelines.house import pipeline_class

HUB_SECONDS = 120  # for one adapter from the hub
SECONDS_KEPT = 3_600  # of a visitor's state on the server
NOTHING: Mapping[str, float] = MappingProxyType({})
SOUND_SOURCES = ["upload", "microphone"]
PICTURE_SOURCES = ["upload", "webcam", "clipboard"]
# The page's own listeners are no part of the API. Those that answer at once have no limit, so that nothing stands
# before them, Stop above all.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
QUICK: dict[str, Any] = {**PRIVATE, "concurrency_id": "quick", "concurrency_limit": None}


@dataclass(frozen=True, slots=True)
class Field:
    """The components of one knob and how their values become the knob's."""

    name: str
    components: tuple[Any, ...]
    take: Callable[..., Any]


class Form:
    """The inputs of one task. Tabs place its fields; what they leave over goes under "more settings"."""

    def __init__(self, edge: Edge, task: str) -> None:
        self.edge = edge
        self.house = edge.house
        self.task = task
        self.fields: list[Field] = []
        self._knobs = {knob.name: knob for knob in knobs(pipeline_class(task).Params)}
        self.notice = gr.HTML(elem_id=f"{task}-notice")  # above everything: what keeps the chosen model from running

    @property
    def inputs(self) -> list[Any]:
        """All components, in the order `raw` expects their values."""
        return [component for field in self.fields for component in field.components]

    def raw(self, *values: Any) -> dict[str, Any]:
        """What House.stream expects, from the components' values."""
        found, at = {}, 0
        for field in self.fields:
            end = at + len(field.components)
            found[field.name] = field.take(*values[at:end])
            at = end
        return {name: value for name, value in found.items() if value is not None}

    def field(self, name: str, **options: Any) -> Any:
        """Make the component of a knob here and now."""
        knob = self._knobs[name]
        component = _MAKERS[knob.kind](knob, {**_words(self.task, name), "elem_id": f"{self.task}-{name}", **options})
        self.add(name, component, take=_TAKES.get(knob.kind, _same))
        return component

    def add(self, name: str, *components: Any, take: Callable[..., Any]) -> None:
        """Take components made elsewhere as the knob's."""
        self.fields.append(Field(name, components, take))

    def rest(self, *, without: tuple[str, ...] = ()) -> None:
        """The knobs not yet placed: the main ones openly, the others under "more settings"."""
        placed = {field.name for field in self.fields} | {"model", "adapters", *without}
        left = [knob for knob in self._knobs.values() if knob.name not in placed]
        for knob in left:
            if not knob.advanced:
                self.field(knob.name)
        advanced = [knob.name for knob in left if knob.advanced]
        if advanced:
            with gr.Accordion(label("more_settings"), open=False):
                for name in advanced:
                    self.field(name)

    def models(self) -> Models:
        """The model picker with card, notice and adapters."""
        return Models(self)

    def has(self, name: str) -> bool:
        return name in self._knobs

    def component(self, name: str) -> Any:
        """The component of a knob that was placed, or None."""
        return next((field.components[0] for field in self.fields if field.name == name), None)


def _words(task: str, name: str) -> dict[str, Any]:
    """Label and hint of a knob: the tab's own words, else the common ones."""
    known = messages()
    key = next(k for k in (f"{task}_{name}", f"knob_{name}") if k in known)
    words = {"label": label(key)}
    if f"{key}_info" in known:
        words["info"] = label(f"{key}_info")
    return words


def samples(rows: Sequence[Sequence[str]], targets: Sequence[Any], task: str) -> None:
    """Texts to try: one click fills `targets`. (gr.Examples would go around the queue, by a door that is shut.)"""
    names = [f"{row[0]} ({row[1]})" if len(row) > 1 and row[1] else row[0] for row in rows]
    shown = gr.Dataset(
        components=list(targets),
        samples=[list(row) for row in rows],
        sample_labels=names,
        label=label("examples"),
        type="index",
        elem_id=f"{task}-examples",
    )

    def take(index: int) -> Any:
        return rows[index][0] if len(targets) == 1 else list(rows[index])

    shown.click(take, [shown], list(targets), api_name=f"{task}_example", **QUICK)


def picture_samples(names: Sequence[str], target: Any, task: str) -> None:
    """Small pictures to try: one click puts one into `target`."""
    paths = [str(SAMPLES / f"{name}.jpg") for name in names]
    gr.HTML(cards.both("examples"), elem_classes="caption")
    shown = gr.Gallery(
        paths,
        show_label=False,
        columns=4,
        fit_columns=False,
        height=110,
        interactive=False,
        allow_preview=False,
        object_fit="cover",
        buttons=[],
        elem_id=f"{task}-samples",
        elem_classes="samples",
    )

    def take(event: gr.SelectData) -> str:
        return paths[event.index]

    shown.select(take, None, [target], api_name=f"{task}_sample", **QUICK)


def paths_only(component: Any) -> Any:
    """Let Gradio hand on the path of a picture or a sound without opening it: that is media.py's."""
    component.preprocess = lambda payload: payload.path if payload else None
    return component


def _picture(knob: Knob, options: dict[str, Any]) -> Any:
    options.pop("info", None)
    return paths_only(gr.Image(type="filepath", image_mode=None, sources=PICTURE_SOURCES, **options))


def _sound(knob: Knob, options: dict[str, Any]) -> Any:
    options.pop("info", None)
    return paths_only(gr.Audio(type="filepath", format=None, sources=SOUND_SOURCES, buttons=[], **options))


def _pictures(knob: Knob, options: dict[str, Any]) -> Any:
    options.pop("info", None)
    gallery = gr.Gallery(type="filepath", sources=["upload"], file_types=["image"], interactive=True, **options)
    gallery.preprocess = lambda payload: [item.image.path for item in payload.root] if payload else []
    return gallery


def _text(knob: Knob, options: dict[str, Any]) -> Any:
    value = "" if knob.required else knob.default
    return gr.Textbox(value, **{"lines": knob.lines, "max_lines": max(knob.lines, 8), **options})


def _number(knob: Knob, options: dict[str, Any]) -> Any:
    return gr.Slider(knob.low, knob.high, knob.default, step=knob.step, **options)


def _choice(knob: Knob, options: dict[str, Any]) -> Any:
    known = messages()
    shown = [(label(key) if (key := f"choice_{value}") in known else value, value) for value in knob.choices]
    make = gr.Radio if len(shown) <= 4 else gr.Dropdown
    return make(shown, value=knob.default, **options)


def _switch(knob: Knob, options: dict[str, Any]) -> Any:
    return gr.Checkbox(knob.default, **options)


def _seed(knob: Knob, options: dict[str, Any]) -> Any:
    return gr.Number(knob.default, minimum=knob.low, maximum=knob.high, precision=0, **options)


def _same(value: Any) -> Any:
    return value


def _path(value: Any) -> Path | None:
    return Path(value) if value else None


def _paths(values: Any) -> tuple[Path, ...]:
    return tuple(Path(value) for value in values or ())


_MAKERS: dict[str, Callable[[Knob, dict[str, Any]], Any]] = {
    "image": _picture,
    "images": _pictures,
    "audio": _sound,
    "text": _text,
    "number": _number,
    "choice": _choice,
    "switch": _switch,
    "seed": _seed,
}
_TAKES: dict[str, Callable[..., Any]] = {"image": _path, "audio": _path, "images": _paths}


class Models:
    """Which model, and which adapters at which weights; says what is missing before anybody waits for it."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.house = form.house
        self.task = form.task
        start = self.house.default_model(self.task)
        self.picker = gr.Dropdown(
            self.choices("en"), value=start, label=label("knob_model"), elem_id=f"{self.task}-model", filterable=False
        )
        form.add("model", self.picker, take=lambda value: value or "")
        with gr.Accordion(label("model_card"), open=False, elem_id=f"{self.task}-card"):
            self.card = gr.HTML()
        self.adapters = Adapters(form, self) if form.has("adapters") else None
        self.picker.change(
            form.edge.guarded(self._chosen),
            [self.picker],
            self.outputs,
            api_name=f"{self.task}_model",
            **QUICK,
        )

    def choices(self, lang: str) -> list[tuple[str, str]]:
        return [(cards.choice(self.house, spec, lang), spec.id) for spec in self.house.catalog.models(self.task)]

    @property
    def outputs(self) -> list[Any]:
        return [self.form.notice, self.card, *(self.adapters.outputs if self.adapters else ())]

    def fresh(self, request: Any, lang: str) -> dict[Any, Any]:
        """Everything about the models in the page's language, when it opens."""
        start = self.house.default_model(self.task, lang)
        return {
            self.picker: gr.update(choices=self.choices(lang), value=start),
            **self._about(start, lang, visitor_of(request)),
        }

    def _chosen(self, request: Any, lang: str, id: str) -> dict[Any, Any]:
        return self._about(id, lang, visitor_of(request))

    def _about(self, id: str, lang: str, visitor: str) -> dict[Any, Any]:
        spec = self.house.catalog.for_task(self.task, id or "")
        updates = {
            self.form.notice: cards.notice(self.house, spec, lang),
            self.card: cards.model_card(self.house, spec, lang),
        }
        return updates | (self.adapters.offer(spec.id, lang, visitor) if self.adapters else {})


class Adapters:
    """Up to four adapters, each with a weight; new ones from two files or by their name on the hub."""

    def __init__(self, form: Form, models: Models) -> None:
        self.form = form
        self.house = form.house
        name = form.task
        with gr.Accordion(label("adapters"), open=False, elem_id=f"{name}-adapters"):
            self.picker = gr.Dropdown(
                [], value=[], multiselect=True, max_choices=MAX_ADAPTERS, label=label("knob_adapters"),
                info=label("knob_adapters_info"), elem_id=f"{name}-adapter-picker",
            )  # fmt: skip
            self.weights = [
                gr.Slider(-2, 2, 1, step=0.05, visible=False, elem_id=f"{name}-weight-{i}") for i in range(MAX_ADAPTERS)
            ]
            self.about = gr.HTML()
            self.weighed = gr.State([], time_to_live=SECONDS_KEPT)  # ids, in the order of the sliders that show them
            self._add_own(name, models)
        form.add("adapters", self.picker, *self.weights, take=_uses)
        self.picker.input(
            form.edge.guarded(self._weigh), [self.picker, self.weighed, *self.weights], self.outputs[1:],
            api_name=f"{name}_weights", **QUICK,
        )  # fmt: skip

    def _add_own(self, name: str, models: Models) -> None:
        with gr.Accordion(label("adapter_own"), open=False):
            files = gr.File(
                label=label("adapter_files"), file_count="multiple", file_types=[".safetensors", ".json"],
                type="filepath", elem_id=f"{name}-adapter-files", height=120,
            )  # fmt: skip
            repo = gr.Textbox(label=label("adapter_repo"), placeholder="org/name", elem_id=f"{name}-adapter-repo")
            add = gr.Button(label("adapter_add"), elem_id=f"{name}-adapter-add")
        add.click(
            self.form.edge.guarded(self._accept),
            [models.picker, files, repo, self.picker, self.weighed, *self.weights],
            self.outputs,
            api_name=f"{name}_adapter",
            concurrency_id="adapters",
            concurrency_limit=2,
            trigger_mode="once",
            **PRIVATE,
        )

    @property
    def outputs(self) -> list[Any]:
        return [self.picker, *self.weights, self.about, self.weighed]

    def offer(
        self, base: str, lang: str, visitor: str, chosen: Sequence[str] = (), kept: Mapping[str, float] = NOTHING
    ) -> dict[Any, Any]:
        """The adapters of a model, those in `chosen` taken, with the weights in `kept` or their own."""
        known = [(spec.title[lang], spec.id) for spec in self.house.catalog.adapters(base, visitor)]
        return {
            self.picker: gr.update(choices=known, value=list(chosen), interactive=bool(known)),
            **self._sliders(chosen, kept, lang, visitor),
        }

    def _sliders(self, chosen: Sequence[str], kept: Mapping[str, float], lang: str, visitor: str) -> dict[Any, Any]:
        """A weight and a card for each chosen adapter."""
        specs = [self.house.catalog.adapter(id, visitor) for id in chosen[:MAX_ADAPTERS]]
        updates: dict[Any, Any] = {slider: gr.update(visible=False) for slider in self.weights}
        for slider, spec in zip(self.weights, specs, strict=False):
            updates[slider] = gr.update(visible=True, label=spec.title[lang], value=kept.get(spec.id, spec.weight))
        about = "".join(cards.adapter_card(spec, lang) for spec in specs)
        return updates | {self.about: about, self.weighed: [spec.id for spec in specs]}

    def _weigh(
        self, request: Any, lang: str, chosen: list[str] | None, weighed: list[str], *weights: float
    ) -> dict[Any, Any]:
        kept = dict(zip(weighed, weights, strict=False))
        return self._sliders(chosen or [], kept, lang, visitor_of(request))

    def _accept(
        self, request: Any, lang: str, base: str, files: Any, repo: str, chosen: list[str] | None, weighed: list[str],
        *weights: float,
    ) -> dict[Any, Any]:  # fmt: skip
        visitor = visitor_of(request)
        spec = self._brought(base, files, repo.strip(), visitor)
        taken = list(dict.fromkeys([*(chosen or ()), spec.id]))[:MAX_ADAPTERS]
        return self.offer(base, lang, visitor, taken, dict(zip(weighed, weights, strict=False)))

    def _brought(self, base: str, files: Any, repo: str, visitor: str) -> AdapterSpec:
        from pipelines import uploads

        if files:
            return uploads.accept_adapter(self.house, base, tuple(Path(file) for file in files), visitor)
        stop = Stop(HUB_SECONDS)
        stop.start_clock()
        return uploads.adapter_from_hub(self.house, base, repo, visitor, stop=stop)


def _uses(chosen: Sequence[str] | None, *weights: float) -> list[dict[str, Any]]:
    return [{"id": id, "weight": weight} for id, weight in zip(chosen or (), weights, strict=False)]
