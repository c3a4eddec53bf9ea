"""The starter voice for real, and how texts are cut. No test reaches for a network."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines import house, media, speech_text
from pipelines.core.errors import InvalidInput
from pipelines.core.params import build
from pipelines.core.registry import Registry
from pipelines.core.streaming import Event, Job, Preview, Progress, Stop
from pipelines.loaders.sources import Sources
from pipelines.speech import Params, Result, Speaker
from tests.tiny import serving

TEXT = "The quick brown fox jumps over the lazy dog. Dr. Smith paid 3.50 dollars! Did it rain today?"


@pytest.fixture(scope="module")
def speaker() -> Iterator[Speaker]:
    from pipelines.core.settings import Settings

    registry = Registry(serving.CATALOG, house.loader, Sources(Settings.read(offline=True)).fetch, budget=2**30)
    yield Speaker(registry, lease_seconds=5)
    registry.close()


def speak(speaker: Speaker, text: str = TEXT, job: Job | None = None, **more: object) -> Result:
    return speaker.run(build(Params, {"text": text, "seed": 7, **more}), job or Job())


def samples_of(result: Result) -> np.ndarray:
    return media.plain_sound(result.wav).samples


def voiced_pitch(samples: np.ndarray, rate: int) -> np.ndarray:
    """F0 in hertz of the clearly voiced 40 ms frames, by autocorrelation within 60 to 500 Hz."""
    size = rate // 25
    found = []
    for frame in samples[: len(samples) // size * size].reshape(-1, size):
        lags = np.correlate(frame, frame, "full")[size - 1 :]
        lag = rate // 500 + int(np.argmax(lags[rate // 500 : rate // 60]))
        if lags[0] > size * 1e-3 and lags[lag] > 0.6 * lags[0]:
            found.append(rate / lag)
    return np.array(found)


def test_the_starter_voice_sounds_like_speech(speaker: Speaker) -> None:
    result = speak(speaker)
    samples = samples_of(result)
    assert result.rate == 24_000 and 4 < result.seconds < 10  # 17 words
    assert 0.02 < np.sqrt((samples**2).mean()) < 0.3 and np.abs(samples).max() <= 1
    pitch = voiced_pitch(samples, result.rate)
    assert len(pitch) > 40 and 140 < np.median(pitch) < 280  # a woman's voice
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / result.rate)
    share = power[(hertz > 80) & (hertz < 4000)].sum() / power.sum()
    assert share > 0.8 and power[hertz > 4000].sum() / power.sum() > 1e-4  # voice, and breath above it


def test_sentences_carry_phonemes_and_times(speaker: Speaker) -> None:
    result = speak(speaker, pause=0.5)
    assert [s.text.split()[0] for s in result.sentences] == ["The", "Dr.", "Did"]
    assert "fˈɑks" in result.sentences[0].phonemes and all(s.phonemes for s in result.sentences)
    assert result.sentences[1].start - result.sentences[0].end == pytest.approx(0.5, abs=0.001)
    assert {name for name, _ in result.stages} == {"phonemes", "synthesis"} and 0 < result.rtf < 1
    assert result.mel.shape[0] == 80 and result.mel.shape[1] == pytest.approx(result.seconds / result.mel_hop, abs=2)


def test_same_seed_same_bytes_and_another_seed_another(speaker: Speaker) -> None:
    wavs = [speak(speaker, seed=seed).wav for seed in (7, 7, 8)]
    assert wavs[0] == wavs[1] != wavs[2]


def test_each_sentence_is_heard_as_soon_as_it_is_spoken(speaker: Speaker) -> None:
    order: list[str] = []

    def emit(event: Event) -> None:
        if isinstance(event, Preview | Progress):
            order.append(type(event).__name__)

    speak(speaker, job=Job(emit=emit))
    assert order[-6:] == ["Progress", "Preview"] * 3


def test_speed_halves_or_doubles_the_time(speaker: Speaker) -> None:
    slow, plain, fast = (speak(speaker, speed=speed, pause=0).seconds for speed in (0.5, 1.0, 2.0))
    assert slow == pytest.approx(2 * plain, rel=0.2) and fast == pytest.approx(plain / 2, rel=0.2)


def test_stop_between_sentences_keeps_what_is_spoken(speaker: Speaker) -> None:
    stop = Stop()
    result = speak(speaker, job=Job(stop, lambda event: stop.set() if isinstance(event, Preview) else None))
    assert result.stopped and len(result.sentences) == 1 and len(result.wav) > 44


def test_chinese_is_refused_with_the_voices_that_speak_it(speaker: Speaker) -> None:
    with pytest.raises(InvalidInput) as caught:
        speak(speaker, "你好，世界。")
    assert caught.value.code == "language_unsupported" and "vibevoice" in caught.value.params["known"]


@pytest.mark.parametrize(
    ("text", "more", "code"), [("?!", {}, "nothing_to_say"), ("Hi.", {"voice": "emma"}, "unknown_voice")]
)
def test_what_cannot_be_spoken_is_refused(speaker: Speaker, text: str, more: dict, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        speak(speaker, text, **more)
    assert caught.value.code == code


def test_speaking_opens_no_connection(speaker: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert speak(speaker, "Hello.").seconds > 0.5


def test_evaluate_counts_rows_and_speed(speaker: Speaker, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("\n".join(json.dumps({"text": text}) for text in ("Hello.", "Good morning.")))
    figures = speaker.evaluate(rows, Job())
    assert figures["n"] == 2 and 0 < figures["rtf"] < 1 and figures["seconds_per_item"] > 0


def test_evaluate_names_the_row_without_text(speaker: Speaker, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "Hello."}\n{"question": "?"}')
    with pytest.raises(InvalidInput) as caught:
        speaker.evaluate(rows, Job())
    assert caught.value.code == "bad_row" and caught.value.params["line"] == 2


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("你好。今天天气怎么样？很好！", ["你好。", "今天天气怎么样？", "很好！"]),
        ("他说：“走吧。”然后走了。", ["他说：“走吧。”", "然后走了。"]),
        ("It costs 3.50. Really?! Dr. Smith knows.", ["It costs 3.50.", "Really?", "Dr. Smith knows."]),
        ("One\n\nTwo", ["One", "Two"]),
        ("?!… 。", []),
        ("a<|vision_end|>b.", ["a b."]),
    ],
)
def test_text_is_cut_at_sentences(text: str, pieces: list[str]) -> None:
    assert speech_text.sentences(text) == pieces


@pytest.mark.parametrize("text", ["字" * 950, "word " * 300, "很长，" * 200, "a" * 500])
def test_no_piece_is_longer_than_a_voice_can_take_and_nothing_is_lost(text: str) -> None:
    pieces = speech_text.sentences(text)
    assert max(map(len, pieces)) <= speech_text.LONGEST
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "languages", "missing"),
    [
        ("Hello", ("en",), ""),
        ("naïve café 5 €", ("en",), ""),
        ("你好", ("en",), "zh"),
        ("你好 hello", ("zh", "en"), ""),
        ("こんにちは", ("zh", "en"), "ja"),
        ("こんにちは", ("multi",), ""),
    ],
)
def test_languages_are_told_by_their_letters(text: str, languages: tuple[str, ...], missing: str) -> None:
    assert speech_text.unsupported(text, languages) == missing
