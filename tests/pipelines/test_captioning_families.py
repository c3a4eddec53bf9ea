"""The three families on one picture: slots and their sentence, neighbours and their vote, scores, many pictures."""

from __future__ import annotations

import copy
import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pipelines.captioners import batch, neighbours, pixels, scoring, template
from pipelines.captioners.plan import FAMILIES, Slot
from pipelines.captioning import Captioner, Params, Result
from pipelines.core.errors import InvalidInput
from pipelines.core.params import build
from pipelines.core.specs import AdapterSpec, Made
from pipelines.core.streaming import Event, Job, Progress, Stop
from pipelines.picture_files import sources
from tests.tiny import adapters, picto, serving
from tests.tiny.gallery import CAPTIONS

PICTURE = serving.picture(1)
SLOTS = {"object", "category", "colour", "count", "style"}


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    return picto.captioner(tmp_path_factory.mktemp("families"))


def ask(captioner: Captioner, job: Job | None = None, **asked: object) -> Result:
    params = build(Params, {"image": PICTURE, "max_new_tokens": 6, "seed": 7, **asked})
    return captioner.run(params, job or Job())


def paper(size: int = 96) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (size, size), "white")
    return image, ImageDraw.Draw(image)


# -- measured --------------------------------------------------------------------------------------


def test_lab_of_known_colours() -> None:
    # Lindbloom's calculator, sRGB and D65
    wanted = [[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.2], [32.3, 79.2, -107.86]]
    found = pixels.lab(np.array([[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 0, 255]]))
    assert found == pytest.approx(np.array(wanted), abs=0.05)


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_pieces_on_white_are_counted(number: int) -> None:
    image, draw = paper(120)
    for at in range(number):
        draw.ellipse((4 + 23 * at, 40, 20 + 23 * at, 60), fill="red")
    assert pixels.pieces(image).most_common(1)[0] == (number, 9)


def test_without_a_plain_ground_nothing_is_counted() -> None:
    assert not pixels.pieces(PICTURE) and not pixels.view(PICTURE).plain
    assert not pixels.pieces(Image.new("RGB", (40, 40), "white"))


def test_white_inside_a_thing_is_not_ground() -> None:
    image, draw = paper()
    draw.ellipse((20, 20, 76, 76), fill="white", outline="black", width=4)
    seen = pixels.view(image)
    assert seen.plain and seen.thing[48, 48] and not seen.thing[0, 0]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("key", list(template._words()["colour"]))
def test_every_colour_is_called_by_its_name(key: str, language: str) -> None:
    colour = template._words()["colour"][key]
    image, draw = paper()
    draw.rectangle((20, 20, 76, 76), fill=colour["near"][0], outline="black", width=2)
    slot = template._colour(pixels.view(image), language)
    assert slot.word == colour[language] and slot.source == "measured"
    assert sum(share for _, share in slot.candidates) == pytest.approx(1)


def test_styles_are_told_apart_by_their_shading() -> None:
    flat, draw = paper()
    draw.ellipse((20, 20, 76, 76), fill="orange")
    line, draw = paper()
    for at in range(20, 76, 8):
        draw.line((at, 20, at, 76), fill="black", width=2)
        draw.line((20, at, 76, at), fill="black", width=2)
    shaded, draw = paper()
    for at in range(36):
        draw.ellipse((12 + at, 12 + at, 84 - at, 84 - at), fill=(255, 120 + 4 * max(0, at - 18), 40))
    noise = np.random.default_rng(0).normal(128, 12, (24, 24, 3)).clip(0, 255).astype("u1")
    photo = Image.fromarray(noise).resize((96, 96), Image.Resampling.BICUBIC)
    words = [template._style(pixels.view(image), "en").word for image in (flat, line, shaded, photo)]
    assert words == ["flat drawing", "black-and-white drawing", "shaded drawing", "photograph"]


# -- template --------------------------------------------------------------------------------------


def test_a_sentence_is_made_of_pieces_that_know_their_slot() -> None:
    slots = [Slot("object", "cat", (), "zero-shot"), Slot("colour", "black", (), "measured")]
    made = template.fill("a {colour} {object}.", slots)
    assert made.caption == "a black cat."
    assert made.pieces == (("a ", ""), ("black", "colour"), (" ", ""), ("cat", "object"), (".", ""))


def test_every_word_of_the_templates_is_there_in_both_languages() -> None:
    words = template._words()
    tables = [entry for name in ("colour", "count", "style", "category") for entry in words[name].values()]
    assert all(entry[language].strip() for entry in [words["sentence"], *tables] for language in ("en", "zh"))
    assert {len(group[f"prompts_{language}"]) for group in words["category"].values() for language in ("en", "zh")} == {
        3
    }


@pytest.mark.parametrize("language", ["en", "zh"])
def test_slots_are_filled_and_say_how(captioner: Captioner, language: str) -> None:
    found = ask(captioner, family="template", language=language)
    made = found.template
    assert made is not None and found.caption == made.caption == "".join(text for text, _ in made.pieces)
    assert {name for _, name in made.pieces} - {""} == {slot.name for slot in made.slots} == SLOTS
    for slot in made.slots:
        assert slot.word == slot.candidates[0][0] and slot.source in ("zero-shot", "measured")
        shares = [share for _, share in slot.candidates]
        assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1 + 1e-6
    labels = {caption[["en", "zh"].index(language)] for caption in CAPTIONS}
    things = next(slot for slot in made.slots if slot.name == "object")
    assert {word for word, _ in things.candidates} <= labels and len(things.candidates) == (
        4 if language == "en" else 3
    )


# -- retrieval -------------------------------------------------------------------------------------


def test_a_neighbour_that_stands_out_gives_the_caption() -> None:
    alike = np.array([[1, 0.1, 0.1], [0.1, 1, 1], [0.1, 1, 1]])
    assert neighbours.chosen(np.array([0.9, 0.6, 0.6]), alike) == 0


def test_among_neighbours_as_near_the_one_others_agree_with_gives_it() -> None:
    alike = np.array([[1, 0.1, 0.1], [0.1, 1, 0.9], [0.1, 0.9, 1]])
    assert neighbours.chosen(np.array([0.71, 0.7, 0.69]), alike) == 1
    assert [neighbours.agreement(alike, at) for at in range(3)] == pytest.approx([0.1, 0.5, 0.5])
    assert neighbours.agreement(np.ones((1, 1)), 0) == 1


def test_neighbours_come_nearest_first_and_one_of_them_is_quoted(captioner: Captioner) -> None:
    found = ask(captioner, family="retrieval").retrieved
    assert found is not None and len(found.neighbours) == neighbours.NEAR
    nearest = found.neighbours[0]
    assert nearest.id == "noise/1" and nearest.similarity == pytest.approx(1, abs=1e-2)  # the picture itself
    assert [n.similarity for n in found.neighbours] == sorted((n.similarity for n in found.neighbours), reverse=True)
    assert found.caption in {n.caption for n in found.neighbours}
    assert found.rule == ("nearest" if found.caption == nearest.caption else "consensus")


def test_a_picture_left_out_is_nobody_s_neighbour(captioner: Captioner) -> None:
    params = build(Params, {"image": PICTURE, "family": "retrieval"})
    found = captioner.run(params, Job(), leave_out={"noise/1"}).retrieved
    assert found is not None and "noise/1" not in {n.id for n in found.neighbours}


def test_chinese_neighbours_have_chinese_captions(captioner: Captioner) -> None:
    found = ask(captioner, family="retrieval", language="zh").retrieved
    assert found is not None and {n.caption for n in found.neighbours} <= {"红猫", "狗", "蓝船"}


# -- side by side ----------------------------------------------------------------------------------


def test_all_families_caption_one_picture_with_a_score_each(captioner: Captioner) -> None:
    found = ask(captioner, family="all", decoding="all", references="a red cat\n\nred cat on noise")
    assert found.neural and found.template and found.retrieved and found.made.seed == 7
    captions = [found.caption, found.retrieved.caption, found.template.caption]
    assert [(score.family, score.caption) for score in found.scores] == list(zip(FAMILIES, captions, strict=True))
    assert all(0 <= score.clip <= 2.5 and score.compared is not None for score in found.scores)
    assert found.caption == found.neural.best.candidates[0].text and len(found.alternatives) == 3


def test_the_score_of_a_neighbour_s_own_words_is_that_of_their_vectors(captioner: Captioner) -> None:
    found = ask(captioner, family="retrieval")
    number = int(found.retrieved.neighbours[0].id.partition("/")[2])  # type: ignore[union-attr]
    texts, pictures = (captioner.gallery.vectors(kind) for kind in ("captions_en", "pictures"))
    at = next(n for n, item in enumerate(captioner.gallery.items) if item.caption_en == found.caption)
    assert number == 1 and found.scores[0].compared is None
    assert found.scores[0].clip == pytest.approx(2.5 * max(0, float(texts[at] @ pictures[1])), abs=0.05)


def test_references_are_lines_and_not_too_many() -> None:
    assert scoring.lines(" a \n\n b\n") == ["a", "b"]
    assert len(scoring.lines("a\n" * 50)) == scoring.MAX_REFERENCES


def test_a_family_without_a_decoder_takes_no_question(captioner: Captioner) -> None:
    with pytest.raises(InvalidInput) as caught:
        ask(captioner, family="template", question="what is it?")
    assert caught.value.code == "question_needs_neural"


def test_another_model_s_caption_does_not_need_the_starter_but_a_comparison_does(
    captioner: Captioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = serving.CATALOG.model("blip-base")
    monkeypatch.setattr(captioner.registry, "catalog", serving.Catalog([picto.SPEC, other]))
    wanted: list[set[str]] = []

    def lease_many(*models: tuple[str, object], **_: object) -> object:
        wanted.append({id for id, _ in models})
        raise InvalidInput("empty", name="stop here")

    monkeypatch.setattr(captioner.registry, "lease_many", lease_many)
    for asked in ({}, {"references": "a"}, {"family": "all"}, {"family": "template"}):
        with pytest.raises(InvalidInput):
            ask(captioner, model="blip-base", **asked)
    both = {"blip-base", "picto-coca"}
    assert wanted == [{"blip-base"}, both, both, {"picto-coca"}]


def test_an_adapter_changes_the_words_and_not_the_eyes(tmp_path: Path) -> None:
    captioner = picto.captioner(tmp_path)
    with captioner.registry.lease("picto-coca") as lease:
        network = copy.deepcopy(lease.model.model)
    adapters.peft_lora(network, tmp_path / "loud", target_modules=["c_fc"], r=2, lora_alpha=64)
    spec = AdapterSpec("loud", "picto-coca", "dir:loud", {"en": "loud", "zh": "响"}, "MIT", 1)
    captioner.registry.add_adapter(spec)
    plain, loud = (ask(captioner, family="all", adapters=uses) for uses in ((), ("loud",)))
    assert loud.tokens != plain.tokens and loud.made.adapters[0].id == "loud"
    assert loud.retrieved == plain.retrieved and loud.template == plain.template
    assert loud.scores[1:] == plain.scores[1:]
    assert ask(captioner, adapters=("loud",)).tokens == loud.tokens


def test_a_stop_while_writing_leaves_the_other_families_out(captioner: Captioner) -> None:
    stop = Stop()

    def emit(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "run":
            stop.set()

    found = ask(captioner, Job(stop, emit), family="all")
    assert found.stopped and len(found.tokens) == 1 and found.neural
    assert (found.template, found.retrieved, found.scores) == (None, None, ())


# -- many pictures ---------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two pictures, one of them in a zip with a broken one."""
    serving.picture(1).save(tmp_path / "=one.png")
    serving.picture(2).save(tmp_path / "two.png")
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("../../broken.png", b"\x89PNG\r\n\x1a\nbroken")
        archive.write(tmp_path / "two.png", "inner/two.png")
    return [tmp_path / "=one.png", tmp_path / "more.zip"]


def test_a_batch_has_a_row_for_every_file_broken_ones_too(captioner: Captioner, files: list[Path]) -> None:
    told: list[Event] = []
    found = captioner.batch(
        sources(files, folders=False), {"family": "all", "max_new_tokens": 6}, Job(emit=told.append)
    )
    one, broken, two = found.rows
    assert (one.file, broken.file, two.file) == ("=one.png", "broken.png", "two.png") and not found.stopped
    assert broken.error == "not_an_image" and broken.neural == "" and broken.logprob is None
    assert one.neural and one.retrieval == CAPTIONS[1][0] and one.template and one.logprob < 0  # type: ignore[operator]
    assert None not in (one.neural_clip, one.retrieval_clip, one.template_clip) and one != two
    assert [(event.done, event.total) for event in told if isinstance(event, Progress)] == [(n, 3) for n in range(4)]


def test_a_batch_draws_with_one_seed_which_it_tells(captioner: Captioner, files: list[Path]) -> None:
    asked = {"decoding": "nucleus", "max_new_tokens": 6}
    one, same = (found := captioner.batch(sources([files[0]] * 2, folders=False), asked, Job())).rows
    assert one == same and found.made is not None and found.made.seed is not None
    again = captioner.batch(sources(files[:1], folders=False), {**asked, "seed": found.made.seed}, Job())
    assert again.rows == (one,)


def test_the_seconds_of_a_batch_are_those_of_all_its_pictures(files: list[Path]) -> None:
    made = Made("model", "", (), None, "cpu", 1.5)
    found = batch.run(
        sources(files, folders=False), lambda image, job: batch.Captioned({"neural": "a"}, -1.0, (), made), Job()
    )
    assert found.made is not None and found.made.seconds == 3.0


def test_the_table_is_a_csv_in_which_no_name_is_a_formula(captioner: Captioner, files: list[Path]) -> None:
    found = captioner.batch(sources(files, folders=False), {"family": "retrieval"}, Job())
    rows = list(csv.DictReader(io.StringIO(batch.table(found.rows))))
    assert [row["file"] for row in rows] == ["'=one.png", "broken.png", "two.png"]
    assert [row["error"] for row in rows] == ["", "not_an_image", ""]
    assert rows[0]["retrieval"] == CAPTIONS[1][0] and float(rows[0]["retrieval_clip"]) >= 0
    assert rows[0]["logprob"] == rows[0]["neural"] == "" and "details" not in rows[0]


def test_a_stopped_batch_keeps_the_rows_so_far(captioner: Captioner, files: list[Path]) -> None:
    stop = Stop()

    def emit(event: Event) -> None:
        if isinstance(event, Progress) and event.done == 2:
            stop.set()

    found = captioner.batch(sources(files, folders=False), {"family": "retrieval"}, Job(stop, emit))
    assert found.stopped and [row.file for row in found.rows] == ["=one.png", "broken.png"]


@pytest.mark.parametrize(
    ("number", "asked", "code"),
    [
        (0, {}, "no_pictures"),
        (batch.MAX_BATCH + 1, {}, "too_many_images"),
        (1, {"family": "poem"}, "not_a_choice"),
        (1, {"question": "who?"}, "question_not_supported"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_at_once(captioner: Captioner, number: int, asked: dict, code: str) -> None:
    given = sources([Path("none.png")], folders=False) * number
    with pytest.raises(InvalidInput) as caught:
        captioner.batch(given, asked, Job())
    assert caught.value.code == code
