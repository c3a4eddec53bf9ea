"""House: the one way in. A toy task stands in for the real ones; admission, slots and streaming are the real thing."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipelines import house as house_module
from pipelines.core.catalog import Catalog
from pipelines.core.errors import Cancelled, Draining, InvalidInput, ModelLoadFailed, TimedOut, TooMany
from pipelines.core.params import adapters_knob, knob, model_knob
from pipelines.core.registry import Registry
from pipelines.core.settings import Settings
from pipelines.core.specs import AdapterSpec, AdapterUse, ModelSpec
from pipelines.core.streaming import Done, Job, Progress, TextDelta
from pipelines.house import House


@dataclass(frozen=True, slots=True)
class ToyParams:
    text: str = knob()
    model: str = model_knob()
    adapters: tuple[AdapterUse, ...] = adapters_knob()


class Toy:
    """Says its text letter by letter; "wait" waits until it is stopped."""

    task: ClassVar[str] = "reasoning"
    Params: ClassVar[type] = ToyParams
    Result: ClassVar[type] = str
    running: ClassVar[list[str]] = []

    def __init__(self, registry: Registry, *, lease_seconds: float) -> None:
        self.registry = registry

    def run(self, params: ToyParams, job: Job) -> str:
        Toy.running.append(params.text)
        try:
            while params.text.startswith("wait"):
                job.check()
                job.stop.wait(0.02)
            for letter in params.text:
                job.emit(TextDelta(letter))
            return f"{params.model}: {params.text}"
        finally:
            Toy.running.remove(params.text)

    def evaluate(self, path: Path, job: Job, **options: Any) -> dict[str, float]:
        return {}


def card(id: str, **more: Any) -> ModelSpec:
    title = {"en": id, "zh": id}
    return ModelSpec(id, "reasoning", "toy", "dir:x", 1, title, "mit", "starter", 1.0, ("en",), **more)


@pytest.fixture
def toy_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(house_module, "pipeline_class", lambda task: Toy)
    title = {"en": "a", "zh": "a"}
    mine = AdapterSpec("mine", "first", "dir:a", title, "mit", 1, owner="ann")
    catalog = Catalog([card("first", default=True), card("second")], [mine])
    registry = Registry(catalog, lambda name: None, None, budget=2**30)  # type: ignore[arg-type,return-value]
    settings = Settings(root=tmp_path, cache=tmp_path, job_seconds=30, drain_seconds=0.2)
    house = House(settings, catalog=catalog, registry=registry)
    monkeypatch.setattr(house.sources, "missing", lambda spec: None)
    yield house
    house.close()


def test_stream_gives_events_then_the_result(toy_house: House) -> None:
    events = list(toy_house.stream("reasoning", {"text": "ab"}))
    assert [e for e in events if not isinstance(e, Progress)] == [TextDelta("a"), TextDelta("b"), Done("first: ab")]


def test_run_uses_the_first_model_that_can_be_used_here(toy_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = ModelLoadFailed("wheel_missing")
    monkeypatch.setattr(toy_house.sources, "missing", lambda spec: gone if spec.id == "first" else None)
    assert toy_house.run("reasoning", {"text": "a"}) == "second: a"


def test_a_page_in_chinese_starts_with_a_model_that_speaks_it(toy_house: House) -> None:
    chinese = dataclasses.replace(card("mandarin"), languages=("zh",))
    toy_house.catalog = Catalog([card("first", default=True), chinese])
    assert toy_house.default_model("reasoning", "zh") == "mandarin"
    assert toy_house.default_model("reasoning", "en") == toy_house.default_model("reasoning") == "first"


def test_bad_input_is_refused_at_once_and_frees_the_visitor(toy_house: House) -> None:
    for _ in range(5):
        with pytest.raises(InvalidInput) as caught:
            toy_house.stream("reasoning", {"text": " "})
        assert caught.value.code == "empty"
    assert not toy_house.admission.counts()


def test_a_visitor_has_one_running_and_two_queued_jobs(toy_house: House) -> None:
    streams = [toy_house.stream("reasoning", {"text": "wait"}, "ann") for _ in range(3)]
    with pytest.raises(TooMany):
        toy_house.stream("reasoning", {"text": "more"}, "ann")
    assert toy_house.admission.counts() == {"ann": 3}
    assert toy_house.stop("ann") == 3
    for stream in streams:
        with pytest.raises(Cancelled):
            list(stream)
        assert stream.join(5)


def test_stop_of_one_visitor_leaves_the_other_alone(toy_house: House) -> None:
    ann = toy_house.stream("reasoning", {"text": "wait"}, "ann")
    bob = toy_house.stream("reasoning", {"text": "b"}, "bob")
    toy_house.stop("ann")
    assert list(bob)[-1] == Done("first: b")
    with pytest.raises(Cancelled):
        list(ann)


def test_jobs_of_one_slot_never_compute_together(toy_house: House) -> None:
    first = toy_house.stream("reasoning", {"text": "wait 1"}, "ann")
    second = toy_house.stream("reasoning", {"text": "wait 2"}, "bob")
    assert isinstance(next(second), Progress)
    assert len(Toy.running) <= 1
    first.close()
    assert first.join(5)
    second.close()
    assert second.join(5)


def test_a_job_ends_when_its_seconds_are_used_up(toy_house: House) -> None:
    from pipelines.core.streaming import Stop

    with pytest.raises(TimedOut):
        list(toy_house.stream("reasoning", {"text": "wait"}, stop=Stop(0.1)))


def test_anothers_upload_is_unknown(toy_house: House) -> None:
    asked = {"text": "a", "adapters": [{"id": "mine", "weight": 0.5}]}
    assert toy_house.params("reasoning", asked, "ann").adapters == (AdapterUse("mine", 0.5),)
    with pytest.raises(InvalidInput) as caught:
        toy_house.params("reasoning", asked, "bob")
    assert caught.value.code == "unknown_adapter"


def test_closing_refuses_new_jobs_and_stops_the_rest(toy_house: House) -> None:
    stream = toy_house.stream("reasoning", {"text": "wait"}, "ann")
    closing = threading.Thread(target=toy_house.close)
    closing.start()
    with pytest.raises(Cancelled):
        list(stream)
    closing.join(10)
    with pytest.raises(Draining):
        toy_house.stream("reasoning", {"text": "a"}, "bob")


def test_opening_the_page_imports_the_chat_models_library_once(
    toy_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    done = threading.Event()

    def load(name: str) -> None:
        asked.append(name)
        done.set()

    monkeypatch.setattr(house_module, "loader", load)
    toy_house.warm()
    toy_house.warm()
    assert done.wait(5) and asked == ["toy"]
