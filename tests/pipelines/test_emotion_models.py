"""Every class an emotion card names: served by a hub, loaded by the real loader, asked for a reading."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines.classifiers import HEADS, READERS
from pipelines.core.errors import Cancelled
from pipelines.core.params import build
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Job, Stop
from pipelines.emotion import EmotionReader, Params, polarity
from pipelines.media import Sound
from tests.hub import LoopbackHub
from tests.tiny import emotion as tiny
from tests.tiny import serving

SPECS = serving.one_of_each("emotion")
TEXT = "i love this phone but hate the battery 我爱这部手机"


def sound(seed: int, seconds: float = 1.0) -> Sound:
    noise = np.random.default_rng(seed).standard_normal(int(seconds * 22_050)) * 0.1
    tone = np.sin(np.arange(len(noise)) * 0.01 * (seed + 1))
    return Sound((0.5 * tone + noise).clip(-1, 1).astype(np.float32), 22_050)


def given(spec: ModelSpec, variant: int = 0) -> dict[str, object]:
    """An input of the kind the card reads; another for another variant."""
    text = (TEXT, "it is fine")[variant]
    return {
        "text": {"text": text},
        "aspect": {"text": text, "aspect": ("battery", "phone")[variant]},
        "image": {"image": serving.picture(1 + 4 * variant)},
        "audio": {"audio": sound(variant)},
    }[spec.options["input"]]


def only(*inputs: str) -> pytest.MarkDecorator:
    """For the cards that read one of these inputs."""
    fitting = [spec for spec in SPECS if spec.options["input"] in inputs]
    return pytest.mark.parametrize("served", fitting, ids=lambda spec: spec.id, indirect=True)


def decode(kind: str, value: object) -> object:
    return value


@pytest.fixture(scope="module", params=SPECS, ids=lambda spec: spec.id)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    with LoopbackHub() as hub:
        folder: Path = tmp_path_factory.mktemp("emotion")
        spec: ModelSpec = request.param
        helpers = [serving.CATALOG.model("goemotions-multilingual")] if spec.options["input"] == "aspect" else []
        yield EmotionReader(serving.registry(hub, folder, tiny.BUILDERS, spec, *helpers), lease_seconds=5), spec


def read(served: tuple, job: Job | None = None, variant: int = 0, **more: object):
    reader, spec = served
    params = build(Params, {"model": spec.id, **given(spec, variant), **more}, decode)
    return next(c for c in reader.run(params, job or Job()).channels if c.input == spec.options["input"])


def test_every_label_gets_a_probability_and_they_sum_to_one(served: tuple) -> None:
    channel = read(served)
    probabilities = [p for _, p in channel.scores]
    assert channel.model == served[1].id and channel.top == channel.scores[0][0]
    assert sum(probabilities) == pytest.approx(1, abs=1e-4) and probabilities == sorted(probabilities, reverse=True)
    assert all(isinstance(p, float) for p in probabilities) and not channel.cut
    assert all(polarity(label) for label, _ in channel.scores)


def test_the_input_matters_and_the_same_input_reads_the_same(served: tuple) -> None:
    first, again, other = (dict(read(served, variant=v).scores) for v in (0, 0, 1))
    assert first == again
    assert max(abs(first[label] - other[label]) for label in first) > 1e-5


def test_evidence_covers_the_words_of_a_text_and_only_of_a_text(served: tuple) -> None:
    channel = read(served)
    if served[1].options["input"] not in ("text", "aspect"):
        assert channel.evidence == ()
        return
    assert [e.word for e in channel.evidence] == [*TEXT.split()[:8], *"我爱这部手机"]
    assert all(TEXT[e.start : e.end] == e.word for e in channel.evidence)
    assert any(abs(e.delta) > 1e-6 for e in channel.evidence)


@only("text", "aspect")
def test_leaving_a_word_out_by_hand_gives_its_evidence(served: tuple) -> None:
    channel = read(served)
    without = read(served, text=TEXT.replace("love", "", 1), explain=False)
    change = channel.scores[0][1] - dict(without.scores)[channel.top]
    assert channel.evidence[1].delta == pytest.approx(change, abs=1e-4)


def test_stop_is_seen_between_batches(served: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, calls = Stop(), []
    head = served[1].options.get("head", "classifier")
    original = HEADS[head]

    def counted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            stop.set()
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setitem(HEADS, head, counted)
    if served[1].options["input"] in ("image", "audio"):
        stop.set()
    with pytest.raises(Cancelled):
        read(served, Job(stop))
    assert len(calls) <= 2


@only("audio")
def test_a_long_sound_is_stopped_between_its_parts(served: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, parts = Stop(), []
    from pipelines import classifiers

    original = classifiers._forward
    monkeypatch.setattr(classifiers, "_forward", lambda *a: (parts.append(1), stop.set(), original(*a))[2])
    with pytest.raises(Cancelled):
        read(served, Job(stop), audio=sound(0, 40))
    assert len(parts) == 1


def test_every_card_names_an_input_and_a_head_there_is() -> None:
    cards = serving.CATALOG.models("emotion")
    assert {spec.options["input"] for spec in cards} <= set(READERS)
    assert {spec.options.get("head", "classifier") for spec in cards} <= set(HEADS)
    assert {spec.options["cls"] for spec in cards} == set(tiny.BUILDERS)
    assert all(spec.options.get("labels") for spec in cards if spec.options.get("head") == "likelihood")
