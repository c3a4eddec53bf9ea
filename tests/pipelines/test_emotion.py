"""Several channels at once, which model reads which, and figures over labelled files. One registry of tiny models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipelines import media
from pipelines.classifiers import MAX_WORDS, Item, spans, without
from pipelines.core.errors import InvalidInput, ModelLoadFailed
from pipelines.core.params import build
from pipelines.core.streaming import Job, Progress
from pipelines.emotion import Channel, EmotionReader, Params, agreement, polarity
from tests.hub import LoopbackHub
from tests.pipelines.test_emotion_models import decode, sound
from tests.tiny import emotion as tiny
from tests.tiny import serving

IDS = ("goemotions-multilingual", "absa-deberta-base", "face-expression-vit", "voice-emotion-wav2vec2")
TEXT = "i love this phone but hate the battery"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmotionReader]:
    with LoopbackHub() as hub:
        specs = [serving.CATALOG.model(id) for id in IDS]
        yield EmotionReader(
            serving.registry(hub, tmp_path_factory.mktemp("emotion"), tiny.BUILDERS, *specs), lease_seconds=5
        )


def ask(**raw: object) -> Params:
    return build(Params, raw, decode)


def channel(label: str) -> Channel:
    return Channel("text", "m", ((label, 0.9),), label, True, polarity(label))


def test_four_channels_are_read_each_by_a_model_of_its_kind(reader: EmotionReader) -> None:
    events: list[object] = []
    params = ask(text=TEXT, aspect="battery", image=serving.picture(1), audio=sound(1), model=IDS[3])
    result = reader.run(params, Job(emit=events.append))
    assert [c.input for c in result.channels] == ["text", "aspect", "image", "audio"]
    assert [c.model for c in result.channels] == list(IDS)
    assert result.made.model == IDS[3]  # the one that was chosen
    runs = [e for e in events if isinstance(e, Progress) and e.stage == "run"]
    assert [e.detail for e in runs] == ["text", "aspect", "image", "audio", ""]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ({}, "nothing_to_read"),
        ({"text": "  "}, "nothing_to_read"),
        ({"aspect": "battery"}, "aspect_without_text"),
        ({"audio": media.Sound(np.zeros(100, dtype=np.float32), 16_000)}, "audio_too_short"),
    ],
)
def test_what_cannot_be_read_is_named(reader: EmotionReader, raw: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        reader.run(ask(**raw), Job())
    assert caught.value.code == code


def test_a_model_that_cannot_be_had_is_passed_over_for_another_channel_but_not_when_chosen(
    tmp_path: Path,
) -> None:
    chinese, english = (serving.CATALOG.model(id) for id in ("chinese-emotion", "goemotions-multilingual"))
    face = serving.CATALOG.model("face-expression-vit")
    with LoopbackHub() as hub:
        reader = EmotionReader(serving.registry(hub, tmp_path, tiny.BUILDERS, chinese, face), lease_seconds=5)
        result = reader.run(ask(text="我爱", image=serving.picture(1), model=face.id), Job())
        assert [c.model for c in result.channels] == [chinese.id, face.id]
        with pytest.raises(ModelLoadFailed):
            reader.run(ask(text="我爱", model=english.id), Job())


def test_threshold_decides_what_is_sure(reader: EmotionReader) -> None:
    def sure(threshold: float) -> bool:
        return reader.run(ask(text=TEXT, threshold=threshold), Job()).channels[0].sure

    scores = reader.run(ask(text=TEXT), Job()).channels[0].scores
    margin = scores[0][1] - scores[1][1]
    assert sure(max(0.0, margin - 0.01)) and not sure(min(1.0, margin + 0.01))


def test_adapters_of_a_model_that_reads_nothing_given_are_refused_not_ignored(reader: EmotionReader) -> None:
    params = ask(image=serving.picture(1), model=IDS[0], adapters=[("some-lora", 1.0)])
    with pytest.raises(InvalidInput) as caught:
        reader.run(params, Job())
    assert caught.value.code == "adapters_unused"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("joy", "hap", "Positive"), True),
        (("joy", "anger"), False),
        (("joy", "neutral"), False),
        (("joy", "surprise", "love"), True),  # surprise can be either: it does not count
        (("joy",), None),
        (("joy", "surprise"), None),
        (("LABEL_0", "joy"), None),
    ],
)
def test_agreement_is_of_clear_polarities_only(labels: tuple[str, ...], expected: bool | None) -> None:
    assert agreement(tuple(channel(label) for label in labels)) is expected


def test_words_are_characters_in_chinese_and_runs_of_letters_elsewhere() -> None:
    text = "I'm 很 happy, 真的!"
    assert [text[a:b] for a, b in spans(text)] == ["I", "m", "很", "happy", "真", "的"]
    assert without(Item(text="a bad day"), (2, 6)).text == "a day"
    assert len(spans("word " * 500)) == MAX_WORDS


def test_a_text_longer_than_the_model_reads_is_said_to_be_cut(reader: EmotionReader) -> None:
    short, long = (reader.run(ask(text=t, explain=False), Job()).channels[0].cut for t in ("i love", "love " * 200))
    assert not short and long


def figures(reader: EmotionReader, path: Path, rows: list[dict[str, str]], **options: object) -> dict[str, float]:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return reader.evaluate(path, Job(), **options)


def test_evaluate_gives_full_marks_for_the_models_own_labels_and_none_for_others(
    reader: EmotionReader, tmp_path: Path
) -> None:
    texts = ["i love this phone", "hate the battery", "我恨", "it is fine"]
    tops = [reader.run(ask(text=text, explain=False), Job()).channels[0].top for text in texts]
    right = figures(reader, tmp_path / "a.jsonl", [{"text": t, "label": top.upper()} for t, top in zip(texts, tops)])  # noqa: B905
    wrong = figures(reader, tmp_path / "b.jsonl", [{"text": t, "label": "pride"} for t in texts])
    assert right["n"] == 4 and right["accuracy"] == right["macro_f1"] == right["uar"] == 1
    assert wrong["accuracy"] == wrong["macro_f1"] == 0 and wrong["baseline"] == 1
    assert right["seconds_per_item"] > 0 and {"micro_f1", "ece"} <= set(right)


def test_evaluate_reads_pictures_sounds_and_aspects_relative_to_the_file(reader: EmotionReader, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    serving.picture(2).save(tmp_path / "data" / "face.png")
    voice = sound(2)
    (tmp_path / "data" / "voice.wav").write_bytes(media.encode_wav(voice.samples, voice.rate))
    rows = [
        {"image": "data/face.png", "label": "happy"},
        {"audio": "data/voice.wav", "label": "sad"},
        {"text": TEXT, "aspect": "battery", "label": "negative"},
    ]
    assert figures(reader, tmp_path / "rows.jsonl", rows)["n"] == 3


@pytest.mark.parametrize(("row", "need"), [({"text": "i love"}, "label"), ({"label": "joy"}, "text | image | audio")])
def test_evaluate_names_the_line_that_lacks_something(
    reader: EmotionReader, tmp_path: Path, row: dict[str, str], need: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        figures(reader, tmp_path / "rows.jsonl", [{"text": "i love", "label": "joy"}, row])
    assert caught.value.params == {"line": 2, "need": need}
