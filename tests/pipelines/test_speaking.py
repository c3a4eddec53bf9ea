"""What surrounds a voice: times, readings mended in place, queues, the ears, long texts. With the starter voices."""

from __future__ import annotations

import csv
import io
import json
import threading
import time
import wave
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

from pipelines import ears, house, media, reading
from pipelines.core.catalog import Catalog
from pipelines.core.errors import InvalidInput, ModelLoadFailed
from pipelines.core.params import build
from pipelines.core.registry import Registry
from pipelines.core.settings import Settings
from pipelines.core.specs import Made
from pipelines.core.streaming import Event, Job, Preview, Stop
from pipelines.loaders.sources import Sources
from pipelines.reading import Phrase
from pipelines.speakers.recital import Recital
from pipelines.speech import LONGEST, Params, Result, Speaker, chosen, written
from pipelines.voices import Manner, Spoken
from tests.tiny import serving

TEXT = "Yesterday, I read the whole book. Then I went home."
HEARING = pytest.mark.skipif(
    Sources(Settings.read(offline=True)).missing(serving.CATALOG.model("whisper-base")) is not None,
    reason="the ears are an optional extra",
)


@pytest.fixture(scope="module")
def speaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Speaker]:
    sources = Sources(Settings.read(offline=True, cache=tmp_path_factory.mktemp("cache")))
    registry = Registry(serving.CATALOG, house.loader, sources.fetch, budget=2**30)
    yield Speaker(registry, lease_seconds=5)
    registry.close()


def asked(text: str = TEXT, **more: Any) -> Params:
    return build(Params, {"text": text, "seed": 7, **more})


@pytest.fixture(scope="module")
def plain(speaker: Speaker) -> Result:
    return speaker.run(asked(lens=True), Job())


def samples_of(result: Result) -> np.ndarray:
    return media.plain_sound(result.wav).samples


# -- times --------------------------------------------------------------------------------------


def test_every_word_has_its_time_and_the_times_follow_each_other(plain: Result) -> None:
    words = [word for sentence in plain.sentences for word in sentence.words]
    assert [word.unit.text for word in words][:4] == ["Yesterday", "I", "read", "the"]
    edges = [edge for word in words for edge in (word.start, word.end)]
    assert edges == sorted(edges) and all(word.end - word.start > 0.02 for word in words)
    for sentence in plain.sentences:
        assert sentence.start <= sentence.words[0].start and sentence.words[-1].end <= sentence.end + 1e-6
        assert sentence.words[-1].end > sentence.end - 0.4


def test_words_are_louder_than_what_lies_between_phrases(plain: Result) -> None:
    samples = samples_of(plain)

    def level(start: float, end: float) -> float:
        return float(np.sqrt(np.mean(samples[round(start * plain.rate) : round(end * plain.rate)] ** 2)))

    words = [level(word.start, word.end) for sentence in plain.sentences for word in sentence.words]
    assert level(plain.sentences[0].end, plain.sentences[1].start) < 0.1 * min(words)


def test_the_lens_gives_pitch_and_seams_over_the_whole_sound(plain: Result, speaker: Speaker) -> None:
    assert len(plain.pitch) == pytest.approx(plain.seconds / plain.pitch_hop, abs=3)
    voiced = plain.pitch[plain.pitch > 0]
    assert 150 < np.median(voiced) < 280 and 0.3 < len(voiced) / len(plain.pitch) < 0.9
    assert [seam.at for seam in plain.seams] == [sentence.start for sentence in plain.sentences[1:]]
    assert all(seam.click < 0.001 and abs(seam.energy) < 25 for seam in plain.seams)
    bare = speaker.run(asked(), Job())
    assert bare.wav == plain.wav and not len(bare.pitch) and not bare.seams and "lens" not in dict(bare.stages)


# -- readings chosen by hand ----------------------------------------------------------------------


def test_overrides_are_written_and_read_alike() -> None:
    assert chosen("12=chong2; 30 = ɹˈɛd ðə\n7=hang2") == {12: "chong2", 30: "ɹˈɛd ðə", 7: "hang2"}
    assert chosen(written({3: "a b", 1: "c"})) == {1: "c", 3: "a b"} and not chosen(" ;\n")


@pytest.mark.parametrize("text", ["chong2", "=chong2", "x=chong2", "3=", "3=a; nonsense"])
def test_what_is_no_override_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        chosen(text)
    assert caught.value.code == "bad_override"


def test_another_reading_changes_its_own_span_and_nothing_else(speaker: Speaker, plain: Result) -> None:
    events: list[Event] = []
    place = TEXT.index("read")
    mended = speaker.respeak(plain, asked(overrides=f"{place}=ɹˈid"), Job(emit=events.append))
    old, new = samples_of(plain), samples_of(mended)
    word = next(w for s in plain.sentences for w in s.words if w.unit.start == place)
    again = next(w for s in mended.sentences for w in s.words if w.unit.start == place)
    assert again.unit.phonemes == "ɹˈid" != word.unit.phonemes
    fade = round(0.012 * plain.rate)
    start, end = round(word.start * plain.rate), round(word.end * plain.rate)
    assert np.array_equal(old[: start - fade], new[: start - fade])
    tail = len(old) - end - fade
    assert np.array_equal(old[-tail:], new[-tail:])
    assert not np.array_equal(old[start:end], new[start:end][: end - start])
    around = np.abs(np.diff(new[start - fade : start + fade])).max()
    assert around <= np.abs(np.diff(old)).max() and len(new) == pytest.approx(len(old), abs=0.3 * plain.rate)
    assert json.loads(mended.settings)["overrides"] == f"{place}=ɹˈid" and mended.sentences[-1].words
    assert len([event for event in events if isinstance(event, Preview)]) == len(mended.sentences)


def test_mending_back_gives_the_first_reading_again(speaker: Speaker, plain: Result) -> None:
    place = TEXT.index("read")
    mended = speaker.respeak(plain, asked(overrides=f"{place}=ɹˈid"), Job())
    back = speaker.respeak(mended, asked(), Job())
    assert [w.unit.phonemes for s in back.sentences for w in s.words] == [
        w.unit.phonemes for s in plain.sentences for w in s.words
    ]
    assert back.seconds == pytest.approx(plain.seconds, abs=0.05)


def test_other_settings_speak_all_of_it_anew(speaker: Speaker, plain: Result) -> None:
    fast = speaker.respeak(plain, asked(speed=1.5), Job())
    assert fast.seconds < 0.85 * plain.seconds and fast.wav == speaker.run(asked(speed=1.5), Job()).wav


def test_a_reading_that_cannot_be_is_refused(speaker: Speaker) -> None:
    for overrides in ("1=ɹˈid", "0=汉"):
        with pytest.raises(InvalidInput) as caught:
            speaker.run(asked(overrides=overrides), Job())
        assert caught.value.code in ("reading_place", "reading_unknown")


# -- volume, files ------------------------------------------------------------------------------


def test_volume_scales_the_sound_and_what_is_too_loud_is_counted(speaker: Speaker, plain: Result) -> None:
    half = samples_of(speaker.run(asked(volume=0.5), Job()))
    assert np.allclose(half, 0.5 * samples_of(plain), atol=2e-4) and plain.clipped == 0
    loud = speaker.run(asked("Ah! Oh no!", volume=2.0), Job())
    beyond = np.mean(np.abs(samples_of(loud)) >= 0.9999)
    assert loud.clipped == pytest.approx(beyond, abs=1e-3) and np.abs(samples_of(loud)).max() <= 1


@pytest.mark.parametrize("format", ["wav", "flac"])
def test_the_settings_are_in_the_file(plain: Result, tmp_path: Path, format: str) -> None:
    path = tmp_path / f"sound.{format}"
    path.write_bytes(media.encode_sound(plain.wav, format))
    with soundfile.SoundFile(path) as file:
        settings = json.loads(file.comment)
        assert file.frames / file.samplerate == pytest.approx(plain.seconds, abs=0.001)
    assert settings == json.loads(plain.settings) == json.loads(media.comment(plain.wav))
    assert settings["text"] == TEXT and settings["seed"] == 7 and settings["model"] == "hibari-heart"


def test_a_queue_of_lines_becomes_a_zip_that_names_what_failed(speaker: Speaker) -> None:
    queue = speaker.batch(["Good morning.", "", "你好。", "Good night."], asked(), Job(), "flac")
    with zipfile.ZipFile(io.BytesIO(queue.zip)) as archive:
        assert archive.namelist() == ["001.flac", "003.flac", "lines.csv"] and archive.testzip() is None
        rows = list(csv.DictReader(io.StringIO(archive.read("lines.csv").decode())))
        samples, rate = soundfile.read(io.BytesIO(archive.read("001.flac")))
    assert [row["error"] for row in rows] == ["", "language_unsupported", ""] and rows[2]["text"] == "Good night."
    assert len(samples) / rate == pytest.approx(queue.lines[0].seconds, abs=0.01) and np.abs(samples).max() > 0.05


def test_a_queue_that_is_stopped_keeps_the_lines_done(speaker: Speaker) -> None:
    stop = Stop()
    seen: list[Event] = []

    def emit(event: Event) -> None:
        seen.append(event)
        if len(seen) == 2:
            stop.set()

    queue = speaker.batch(["One.", "Two.", "Three."], asked(), Job(stop, emit))
    assert queue.stopped and len(queue.lines) == 1


@pytest.mark.parametrize(
    ("lines", "format", "code"),
    [([" "], "wav", "empty"), (["a"] * 501, "wav", "too_many_lines"), (["a"], "aiff", "not_a_choice")],
)
def test_a_queue_that_cannot_be_is_refused(speaker: Speaker, lines: list[str], format: str, code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        speaker.batch(lines, asked(), Job(), format)
    assert caught.value.code == code


# -- Chinese --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chinese(speaker: Speaker) -> Result:
    return speaker.run(asked("他重新说，谢谢。", model="kokoro-zh", lens=True), Job())


def test_characters_have_times_and_tones(chinese: Result) -> None:
    words = [word for sentence in chinese.sentences for word in sentence.words]
    assert [word.unit.text for word in words] == list("他重新说谢谢")
    assert all(0.03 < word.end - word.start < 0.8 for word in words)
    assert [(toned.text, toned.tone) for toned in chinese.tones] == list(
        zip("他重新说谢谢", (1, 2, 1, 1, 4, 5), strict=True)
    )
    assert all(
        toned.start <= min(toned.times) <= max(toned.times) <= toned.end for toned in chinese.tones if toned.heard
    )


def test_a_character_read_otherwise_is_joined_in(speaker: Speaker, chinese: Result) -> None:
    mended = speaker.respeak(chinese, asked("他重新说，谢谢。", model="kokoro-zh", overrides="1=zhong4"), Job())
    old, new = samples_of(chinese), samples_of(mended)
    word = chinese.sentences[0].words[1]
    start = round((word.start - 0.012) * chinese.rate)
    assert np.array_equal(old[:start], new[:start]) and mended.sentences[0].words[1].unit.reading == "zhong4"
    later = round((chinese.seconds - word.end - 0.03) * chinese.rate)
    assert np.array_equal(old[-later:], new[-later:]) and len(new) != len(old)


def test_a_stop_ends_a_phrase_that_is_being_spoken(speaker: Speaker, chinese: Result) -> None:
    stop, ended = Stop(), []
    text = "这是一个很长的句子我们在它说完之前就要让它停下来看看需要多久才能真的停下来"

    def run() -> None:
        ended.append(speaker.run(asked(text, model="kokoro-zh"), Job(stop)))

    thread = threading.Thread(target=run)
    thread.start()
    time.sleep(1.0)
    stop.set()
    started = time.perf_counter()
    thread.join(20)
    assert ended[0].stopped and not ended[0].sentences and time.perf_counter() - started < 2.0


# -- long texts -------------------------------------------------------------------------------------


class Humming:
    """A voice that hums two seconds for every phrase."""

    rate = 24_000

    def phrases(self, text: str, overrides: Mapping[int, str]) -> Iterator[Phrase]:
        return reading.phrases(text, overrides=overrides)

    def say(self, phrase: Phrase, manner: Manner) -> Spoken:
        samples = 0.1 * np.sin(np.arange(48_000) * 0.05).astype(np.float32)
        return Spoken(samples, "m", (), ((0.0, 2.0),) * len(phrase.units))


class Lent:
    spec = serving.CATALOG.model("kokoro-zh")

    def made(self, *, seed: int, seconds: float) -> Made:
        return Made(self.spec.id, "", (), seed, "cpu", seconds)


def test_a_long_text_takes_no_more_memory_and_its_sound_is_whole() -> None:
    text = "今天天气很好，我们去公园走走。" * (LONGEST // 15)
    reading.read("好。")  # the dictionaries are not the text's
    process, peaks = psutil.Process(), list[int]()

    def emit(event: Event) -> None:
        if isinstance(event, Preview):
            peaks.append(process.memory_info().rss)

    result = Recital(Humming(), Lent(), asked(text, pause=0.0), Job(emit=emit), {}).run()
    count = len(result.sentences)
    assert count > 300 and result.seconds == pytest.approx(2 * count, abs=0.5)
    sound = 2 * 48_000 * count  # bytes
    assert peaks[-1] - peaks[9] < 0.3 * sound  # words and readings stay, the sound does not
    assert result.mel.shape[1] <= 2_002 and len(result.wav) == pytest.approx(sound, rel=0.01)
    with wave.open(io.BytesIO(result.wav)) as file:
        assert file.getnframes() == 48_000 * count


def test_the_first_phrase_is_short_and_heard_before_the_rest_is_read() -> None:
    text = "好的，" + "今天天气很好我们去公园走走。" * 1_000
    stop = Stop()
    started = time.perf_counter()
    result = Recital(
        Humming(), Lent(), asked(text), Job(stop, lambda e: stop.set() if isinstance(e, Preview) else None), {}
    ).run()
    assert result.stopped and len(result.sentences) == 1 and result.first_audio <= time.perf_counter() - started < 2


# -- ears ---------------------------------------------------------------------------------------------


@HEARING
def test_what_is_said_is_heard(speaker: Speaker) -> None:
    result = speaker.run(asked("The children went home after school.", listen=True), Job())
    assert result.heard is not None and result.heard.rate <= 1 / 6 and result.heard.count == 6
    assert "school" in result.heard.heard.lower() and result.heard.language == "en"


@HEARING
def test_ears_that_hear_nothing_count_all_as_missing(speaker: Speaker) -> None:
    result = speaker.run(asked("Hello there.", volume=0.1), Job())
    silent = media.encode_wav(np.zeros(result.rate, np.float32), result.rate)
    trip = speaker.hear(_with(result, silent), Job())
    assert trip.count == 2 and trip.errors >= 1


@HEARING
def test_chinese_is_heard_in_simplified_characters() -> None:
    model = type("Loaded", (), {})()
    sources = Sources(Settings.read(offline=True))
    spec = serving.CATALOG.model("whisper-base")
    model = house.loader("whisper").load(spec, sources.fetch(spec, stop=Stop(), progress=lambda _: None), "cpu")
    listener = ears.of(spec, model)
    vocabulary = model.model.hf_tokenizer
    banned = {vocabulary.decode([token]) for token in listener.unwanted["zh"][1:]}
    assert {"書", "車"} <= {text.strip() for text in banned} and not {"书", "的", "a"} & banned
    house.loader("whisper").free(model)


@HEARING
def test_evaluate_gives_the_ears_figures_in_both_languages(speaker: Speaker, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    lines = [{"text": "Good morning, everyone.", "lang": "en"}, {"text": "你好。", "lang": "zh"}]
    rows.write_text("\n".join(json.dumps(line) for line in lines))
    figures = speaker.evaluate(rows, Job())
    assert figures["n"] == 2 and 0 <= figures["wer"] < 0.5 and "cer" in figures
    assert figures["rtf"] > 0 and figures["first_audio"] > 0 and figures["clipped"] == 0 and figures["tones_right"] >= 0
    assert speaker.evaluate(rows, Job(), limit=1)["n"] == 1


FORMANT = """#!/bin/sh
cat > "$SAID"
echo "$@" >> "$SAID"
exec cat "$SOUND"
"""


@HEARING
def test_formant_synthesis_is_the_baseline_where_it_is_installed(
    speaker: Speaker, plain: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, said = tmp_path / "espeak-ng", tmp_path / "said.txt"
    program.write_text(FORMANT)
    program.chmod(0o755)
    (tmp_path / "sound.wav").write_bytes(plain.wav)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("SAID", str(said))
    monkeypatch.setenv("SOUND", str(tmp_path / "sound.wav"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"text": "Good night.", "lang": "en"}))
    figures = speaker.evaluate(rows, Job())
    assert figures["wer"] < 1 <= figures["baseline_wer"]  # that says something else
    assert said.read_text() == "Good night.-v en-us --stdin --stdout\n"


def test_without_ears_it_says_what_to_install() -> None:
    with pytest.raises(ModelLoadFailed, match="no_ears"):
        ears.card(Catalog([spec for spec in serving.CATALOG.models() if not spec.options.get("ears")]))


def _with(result: Result, wav: bytes) -> Result:
    from dataclasses import replace

    return replace(result, wav=wav)
