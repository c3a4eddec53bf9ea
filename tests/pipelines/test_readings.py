"""How texts are read: a table of cases in both languages, readings chosen by hand, places, streaming."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path

import pytest

from pipelines import reading
from pipelines.core.errors import InvalidInput
from pipelines.readers import chinese, english, pinyin
from pipelines.reading import Reading, Unit, phonemes, read

CASES = tomllib.loads(Path(__file__).with_name("readings.toml").read_text(encoding="utf-8"))
SAID = [
    (lang, kind, *case)
    for lang, kinds in CASES["said"].items()
    for kind, table in kinds.items()
    for case in table.items()
]
PINYIN = [(kind, *case) for kind, table in CASES["pinyin"].items() for case in table.items()]
CHARACTER = [(char, *case) for char, table in CASES["character"].items() for case in table.items()]


def units(result: Reading) -> list[Unit]:
    return [unit for phrase in result.phrases for unit in phrase.units]


def unit(result: Reading, text: str) -> Unit:
    return next(each for each in units(result) if each.text == text)


def test_the_table_is_as_long_as_it_should_be() -> None:
    assert len(SAID) + len(PINYIN) >= 120 and sum(lang == "en" for lang, *_ in SAID) >= 60


@pytest.mark.parametrize(("language", "kind", "text", "said"), SAID, ids=lambda value: value[:20])
def test_figures_signs_and_short_forms_are_said_in_words(language: str, kind: str, text: str, said: str) -> None:
    assert read(text, "auto" if kind == "mixed" else language).normalised == said


@pytest.mark.parametrize(("kind", "text", "said"), PINYIN, ids=lambda value: value[:20])
def test_characters_are_read_as_their_place_asks(kind: str, text: str, said: str) -> None:
    assert " ".join(each.reading for each in units(read(text))) == said


@pytest.mark.parametrize(("char", "text", "underlying"), CHARACTER, ids=lambda value: value[:20])
def test_a_character_of_many_readings_has_the_right_one(char: str, text: str, underlying: str) -> None:
    assert underlying in [each.underlying for each in units(read(text)) if each.text == char]


def test_places_are_those_of_the_text_as_given() -> None:
    text = "  他花了￥1,234.50买iPhone 15（８ＧＢ）！\n\nDr. Lee paid  $5 — e.g. on 3/4."
    result = read(text)
    assert all(text[each.start : each.end] == each.text for each in units(result))
    assert [each.start for each in units(result)] == sorted({each.start for each in units(result)})
    said = {each.text: each.said for each in units(result)}
    assert (
        said["￥1,234.50"] == "一千二百三十四点五零元" and said["$5"] == "five dollars" and said["８ＧＢ"] == "八吉字节"
    )


def test_a_character_shows_what_else_it_can_be_and_a_figure_other_words() -> None:
    result = read("他在2026年还行")
    assert "huan2" in unit(result, "还").options and "hang2" in unit(result, "行").options
    assert unit(result, "还").reading not in unit(result, "还").options
    assert "两千零二十六" in unit(result, "2026").options


def test_a_word_shows_what_else_it_can_be() -> None:
    assert unit(read("I read it"), "read").reading == "ɹˈɛd" and unit(read("I read it"), "read").options == ("ɹˈid",)
    assert unit(read("NASA"), "NASA").reading == "nˈæsə" and "ˌɛnˌAˌɛsˈA" in unit(read("NASA"), "NASA").options


@pytest.mark.parametrize("wanted", ["chong2", "chóng"])
def test_a_chosen_reading_is_said_and_heard_by_its_neighbours(wanted: str) -> None:
    result = read("很重要", overrides={1: wanted})
    assert [each.reading for each in units(result)] == ["hen3", "chong2", "yao4"]
    assert unit(result, "重").phonemes == "ꭧʰʊ↗ŋ" and "zhong4" in unit(result, "重").options
    assert [each.reading for each in units(read("很重", overrides={1: "hao3"}))] == ["hen2", "hao3"]
    assert [each.reading for each in units(read("你好", overrides={0: "ni3"}))] == ["ni3", "hao3"]


def test_a_chosen_word_for_a_figure_is_said() -> None:
    result = read("有2026本", overrides={1: "二零二六"})
    assert result.normalised == "有二零二六本" and unit(result, "2026").options[0] == "两千零二十六"
    assert read("in 2026", overrides={3: "two thousand twenty-six"}).normalised == "in two thousand twenty-six"


def test_chosen_phonemes_of_a_word_are_said() -> None:
    result = read("A record of a record.", overrides={2: "ɹəkˈɔɹd"})
    assert [each.phonemes for each in units(result) if each.text == "record"] == ["ɹəkˈɔɹd", "ɹˈɛkəɹd"]


@pytest.mark.parametrize(
    ("text", "overrides", "code"),
    [
        ("你好", {0: "xyz9"}, "reading_unknown"),
        ("你好", {0: "blorp3"}, "reading_unknown"),
        ("你好", {7: "ni3"}, "reading_place"),
        ("你好", {-1: "ni3"}, "reading_place"),
        ("hello", {2: "hˈɛlO"}, "reading_place"),
        ("hello", {0: "你好"}, "reading_unknown"),
        ("3个", {0: "<b>"}, "reading_unknown"),
        ("你 好", {1: "ni3"}, "reading_place"),
    ],
)
def test_a_reading_that_cannot_be_is_refused(text: str, overrides: dict[int, str], code: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(text, overrides=overrides)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("text", "sounds"),
    [
        ("银行行长", "i↗nxa↗ŋxa↗ŋꭧa↓ŋ"),
        ("你好！", "ni↓xau↓!"),  # Kokoro was taught tones as they stand by themselves
        ("长大，很长", "ꭧa↓ŋta↘, xə↓nꭧʰa↗ŋ"),
        ("女儿、绿草、嗯", "ny↓ɚ↗, ly↘ʦʰau↓, n↗"),
        ("四十四只石狮子", "sɨ↘ʂɨ↗sɨ↘ ꭧɨ→ ʂɨ↗ʂɨ→ʦɨ"),
        ("《红楼梦》？", "“xʊ↗ŋlou↗mə↘ŋ”?"),
        ("花儿……", "xwa→ɚ…"),
        ("我用Python。", "wo↓jʊ↘ŋ pˈIθˌɑn."),
        ("买3台GPU！", "mai↓ sa→ntʰai↗ ʤˌipˌijˈu!"),
        ('we said "no", twice.', "wi sˈɛd “nˈO”, twˈIs."),
    ],
)
def test_sounds_are_spelt_with_words_apart_and_marks_the_voices_know(text: str, sounds: str) -> None:
    assert phonemes(read(text)) == sounds


def test_an_english_voice_is_given_no_chinese() -> None:
    result = read("我用Python 3。")
    assert phonemes(result, "hibari") == "pˈIθˌɑn" and "wo↓" in phonemes(result, "kokoro")


def test_the_neighbours_decide_how_a_small_word_sounds() -> None:
    result = read("the apple and the pear")
    assert [each.reading for each in units(result) if each.text == "the"] == ["ði", "ðə"]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("你好。今天天气怎么样？很好！", ["你好。", "今天天气怎么样？", "很好！"]),
        ("他说：“走吧。”然后走了。", ["他说：“走吧。”", "然后走了。"]),
        ("It costs 3.50. Really?! Dr. Smith knows.", ["It costs 3.50.", "Really?!", "Dr. Smith knows."]),
        ("One\n\nTwo", ["One", "Two"]),
        ("See https://a.com/?q=1 now! Go at 7 p.m. today.", ["See https://a.com/?q=1 now!", "Go at 7 p.m. today."]),
        ("?!… 。", []),
        ("", []),
    ],
)
def test_a_text_is_cut_at_its_sentences(text: str, pieces: list[str]) -> None:
    assert [phrase.text.strip() for phrase in read(text, first=9).phrases] == pieces


def test_pauses_follow_the_marks() -> None:
    result = read("春天来了，花开了。\n\n" * 2 + "我们去看花", longest=1.0, first=1.0)
    assert [phrase.pause for phrase in result.phrases] == [0.15, 0.7, 0.15, 0.7, 0.0]


def test_the_first_phrase_is_short_and_none_is_long() -> None:
    text = "春天来了，花也开了，" + "我们一起去公园里看花，" * 30 + "好。" + "字" * 300
    found = read(text, longest=6.0, first=1.0).phrases
    assert found[0].text == "春天来了，" and max(len(phrase.text) for phrase in found) <= 30
    assert "".join(phrase.text for phrase in found) == text


def test_figures_are_never_cut() -> None:
    text = "共计" + "1,234,567.89元，" * 40
    assert {each.said for each in units(read(text, longest=2.0)) if each.text[0] == "1"} == {
        "一百二十三万四千五百六十七点八九"
    }


def test_only_what_is_asked_for_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[str] = []
    whole = chinese.syllables
    monkeypatch.setattr(chinese, "syllables", lambda run, fixed: runs.append(run) or whole(run, fixed))
    stream = reading.phrases("今天天气很好。" * 3000)
    assert next(stream).text == "今天天气很好。" and next(stream) and len(runs) == 2


def test_every_character_of_the_language_has_sounds() -> None:
    from pypinyin.pinyin_dict import pinyin_dict

    common = [chr(code) for code in pinyin_dict if 0x4E00 <= code < 0x9FFF][::7]
    assert len(common) > 2_900
    silent = {char for char in common if not phonemes(read(char))}
    assert not silent - set("兙兛兞兝兡兣嗧瓩糎甅瓧瓰瓱瓼")  # units written as one character, of two syllables


@pytest.mark.parametrize(
    ("written", "known"),
    [
        ("zhong4", "zhong4"),
        ("zhòng", "zhong4"),
        ("lǜ", "lv4"),
        ("lü4", "lv4"),
        ("de", "de5"),
        ("r5", "r5"),
        ("zh4", ""),
        ("bx3", ""),
    ],
)
def test_pinyin_is_known_however_it_is_written(written: str, known: str) -> None:
    assert pinyin.canonical(written) == known


def test_reading_survives_any_text() -> None:
    draw = random.Random(5)
    signs = "0123456789.,:;-/%$¥€°'\"()[]<>@#&+=~ \n\tabzAIX一二不儿长行年月日点第℃½①Ⅳ，。！？…—《》😀ñ你好"
    for _ in range(300):
        text = "".join(draw.choices(signs, k=draw.randint(1, 60)))
        result = read(text)
        assert all(text[each.start : each.end] == each.text for each in units(result))
        assert not any(char.isdigit() for char in result.normalised if char in "0123456789")


def test_the_language_of_figures_is_that_of_the_words_around_them() -> None:
    assert read("3.14", "zh").normalised == "三点一四" and read("3.14", "en").normalised == "three point one four"
    assert read("The word 你好 has 2 characters.").normalised == "The word 你好 has two characters."
    assert not reading.needs_english("有3只猫，5kg。") and reading.needs_english("用Python写")


def test_the_dictionary_given_is_the_one_used() -> None:
    class Calls:
        def __getattr__(self, name: str) -> object:
            used.append(name)
            return getattr(english.dictionary(), name)

    used: list[str] = []
    read("hello", english=Calls())
    assert "phonemize_tokens" in used
