"""What each tab makes of a result, without a model: values for its components, escaped, in one's language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from demos import emotion, text_to_image
from demos.reasoning import Answer
from pipelines import media
from pipelines.core.specs import Made
from pipelines.core.streaming import Preview, TextDelta, Thought
from pipelines.emotion import Channel, Evidence
from pipelines.emotion import Result as Reading
from pipelines.text_to_image import Result as Drawn

MADE = Made("model", "", (), 7, "cpu", 1.0)


class Parts(dict[str, str]):
    """Stands for a tab's components: each is its own name."""

    def __missing__(self, name: str) -> str:
        return name


def test_pictures_keep_the_settings_inside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    picture = Image.new("RGB", (8, 8))
    png = media.encode_png(picture, {"parameters": "seed 7"})
    view = text_to_image.Drawing(Parts(), "en")
    assert view.after(Preview("image", picture, 1)) == {"live": picture}
    shown = view.done(Drawn((png, png), 8, 8, (7, 8), (False, True), MADE))
    paths, captions = zip(*shown["gallery"], strict=True)
    assert Path(paths[0]).read_bytes() == png
    assert captions == ("seed 7", "seed 8")
    assert "safety" in shown["blank"]


def reading(channel: str, scores: tuple[tuple[str, float], ...], evidence: tuple[Evidence, ...] = ()) -> Channel:
    top = scores[0][0]
    return Channel(input=channel, model="m", scores=scores, top=top, sure=True, polarity="positive", evidence=evidence)


@pytest.mark.parametrize(("lang", "word"), [("en", "joy"), ("zh", "喜悦")])
def test_every_channel_shows_all_its_scores_in_ones_language(lang: str, word: str) -> None:
    evidence = (Evidence("so", 5, 7, -0.1), Evidence("happy", 8, 13, 0.4))
    text = reading("text", (("joy", 0.7), ("odd label", 0.3)), evidence)
    face = reading("image", (("anger", 0.6), ("joy", 0.4)))
    view = emotion.Readings(Parts(), {"text": "I am so happy"}, lang)
    shown: dict[str, Any] = view.done(Reading((text, face), False, MADE))
    assert shown["text"]["value"] == {word: 0.7, "odd label": 0.3}
    assert shown["image"]["visible"] and not shown["audio"]["visible"]
    assert shown["evidence"]["value"] == [("I am ", None), ("so", -0.15), (" ", None), ("happy", 0.6)]
    assert word in shown["verdict"]


def test_thoughts_are_folded_under_one_and_the_answer_follows() -> None:
    view = Answer([{"role": "user", "content": "2+2?"}], "chat", "tokens", "en")  # type: ignore[arg-type]
    view.start()
    view.after(Thought("1", "two and two"))
    pending = view.after(Thought("2", "make four"))["chat"]
    assert [m.get("metadata", {}).get("status") for m in pending[1:2]] == ["pending"]
    shown = view.after(TextDelta("4"))["chat"]
    assert [m["content"] for m in shown] == ["2+2?", "", "two and two", "make four", "4"]
    assert {m["metadata"]["parent_id"] for m in shown[2:4]} == {shown[1]["metadata"]["id"]}
