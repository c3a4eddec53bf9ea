"""Every class a speech card names: served by a hub, loaded by the real loader, asked to speak."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines import ears
from pipelines.core.errors import InvalidInput
from pipelines.core.params import build
from pipelines.core.specs import ModelSpec
from pipelines.core.streaming import Event, Job, Preview, Stop
from pipelines.media import Sound
from pipelines.speech import Params, Result, Speaker
from tests.hub import LoopbackHub
from tests.tiny import serving, speech

HUB_CARDS = [spec for spec in serving.CATALOG.models() if spec.task == "speech" and spec.source.startswith("hf:")]
SPECS = list({serving.kind(spec): spec for spec in reversed(HUB_CARDS) if not spec.part}.values())
TEXT = "Hello there. How are you, my friend?"


@pytest.fixture(scope="module", params=SPECS, ids=lambda spec: spec.id)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple]:
    spec: ModelSpec = request.param
    parts = [serving.CATALOG.model(spec.options["vocoder"])] if "vocoder" in spec.options else []
    with LoopbackHub() as hub:
        registry = serving.registry(hub, tmp_path_factory.mktemp("speech"), speech.BUILDERS, spec, *parts)
        yield Speaker(registry, lease_seconds=5), spec
        registry.close()


def speak(served: tuple, text: str = TEXT, job: Job | None = None, **more: object) -> Result:
    speaker, spec = served
    return speaker.run(build(Params, {"text": text, "model": spec.id, "seed": 7, **more}), job or Job())


def test_every_class_of_the_cards_has_a_tiny_model() -> None:
    assert {serving.kind(spec) for spec in HUB_CARDS} == set(speech.BUILDERS)


def test_it_speaks_each_sentence_and_the_wav_holds_them(served: tuple) -> None:
    events: list[Event] = []
    result = speak(served, job=Job(emit=events.append))
    heard = [event.value for event in events if isinstance(event, Preview)]
    with wave.open(io.BytesIO(result.wav)) as file:
        assert file.getframerate() == result.rate and file.getsampwidth() == 2
        assert file.readframes(10**9) == b"".join(samples.tobytes() for _, samples in heard)
    assert [s.text for s in result.sentences] == ["Hello there.", "How are you, my friend?"]
    assert result.sentences[-1].end == pytest.approx(result.seconds) and result.mel.shape[0] == 80
    assert result.made.model == served[1].id and dict(result.stages) and not result.stopped


def test_same_seed_same_bytes(served: tuple) -> None:
    assert speak(served).wav == speak(served).wav


def test_speed_shortens_it(served: tuple) -> None:
    slow, fast = (speak(served, speed=speed, pause=0).seconds for speed in (0.5, 2.0))
    assert fast < 0.8 * slow


def test_process_wide_random_numbers_are_left_alone(served: tuple) -> None:
    import torch

    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    speak(served)
    assert torch.equal(torch.rand(3), expected)


def test_stop_after_the_first_sentence_keeps_it(served: tuple) -> None:
    stop = Stop()
    result = speak(served, job=Job(stop, lambda event: stop.set() if isinstance(event, Preview) else None))
    assert result.stopped and [s.text for s in result.sentences] == ["Hello there."] and result.seconds > 0


def test_a_language_the_voice_does_not_speak_is_refused_with_those_that_do(served: tuple) -> None:
    with pytest.raises(InvalidInput) as caught:
        speak(served, "Привет")
    assert caught.value.code == "language_unsupported" and caught.value.params["language"] == "ru"


def test_a_chinese_voice_speaks_chinese(tmp_path_factory: pytest.TempPathFactory) -> None:
    spec = next(spec for spec in SPECS if "zh" in spec.languages)
    with LoopbackHub() as hub:
        registry = serving.registry(hub, tmp_path_factory.mktemp("speech"), speech.BUILDERS, spec)
        result = speak((Speaker(registry, lease_seconds=5), spec), "你好。今天天气怎么样？")
    assert [s.text for s in result.sentences] == ["你好。", "今天天气怎么样？"]
    assert np.isfinite(result.mel).all()


def test_the_full_tiers_ears_hear_in_the_language_asked_for(tmp_path: Path) -> None:
    spec = next(spec for spec in HUB_CARDS if spec.options.get("ears"))
    sound = Sound(np.random.default_rng(1).normal(0, 0.1, 16_000).astype(np.float32), 16_000)
    with LoopbackHub() as hub:
        registry = serving.registry(hub, tmp_path, speech.BUILDERS, spec)
        with registry.lease(spec.id, timeout=5) as lease:
            listener = ears.of(spec, lease.model)
            asked: list[dict] = []
            generate = lease.model.model.generate

            def watched(*inputs: object, **options: object) -> object:
                asked.append(options)
                return generate(*inputs, **options)

            lease.model.model.generate = watched
            heard = [ears.listen(listener, sound, language, Stop()) for language in ears.LANGUAGES]
            assert [options["language"] for options in asked] == ["en", "zh"] and all(isinstance(t, str) for t in heard)
            assert ears.listen(listener, Sound(sound.samples[:0], 16_000), "en", Stop()) == "" and len(asked) == 2
            with pytest.raises(InvalidInput, match="not_a_choice"):
                ears.listen(listener, sound, "fr", Stop())
        registry.close()
