"""Many pictures at once on the captioning tab: what is checked first, what is shown, and the file one takes home."""

from __future__ import annotations

import csv
import io
import types
from pathlib import Path
from typing import Any

import pytest

from demos import captioning_batch
from demos.captioning_batch import BLANK, SHOWN, Rows, describe_all, preview
from pipelines.captioners.batch import Batch, Row
from pipelines.core.errors import InvalidInput
from pipelines.core.streaming import Job

PARTS = {"rows": "rows", "file": "file"}
ROWS = (
    Row("cat.png", neural="a cat", template="cat: a drawing", neural_clip=0.5, template_clip=0.7),
    Row("<b>.png", error="file_too_large", details={"limit": 20}),
)


def saved(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What is handed to the browser as a file."""
    found: list[bytes] = []

    def save(data: bytes, ending: str) -> dict[str, str]:
        assert ending == "csv"
        found.append(data)
        return {"path": "/x/result.csv"}

    monkeypatch.setattr(captioning_batch, "save", save)
    return found


def test_the_file_has_every_row_and_opens_in_a_spreadsheet(monkeypatch: pytest.MonkeyPatch) -> None:
    files = saved(monkeypatch)
    rows = (*ROWS, Row("猫.png", neural="猫"), Row("=1+1", neural="=1+1"))
    shown = Rows(PARTS, "en").done(Batch(rows, False, None))
    assert shown["file"]["value"] == "/x/result.csv" and shown["file"]["visible"]
    assert files[0].startswith(b"\xef\xbb\xbf")
    told = list(csv.DictReader(io.StringIO(files[0].decode("utf-8-sig"))))
    assert [row["file"] for row in told] == ["cat.png", "<b>.png", "猫.png", "'=1+1"]
    assert told[0]["neural_clip"] == "0.5000" and told[1]["error"] == "file_too_large"


def test_a_stop_before_the_first_row_makes_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    files = saved(monkeypatch)
    shown = Rows(PARTS, "en").done(Batch((), True, None))
    assert files == [] and "value" not in shown["file"]


@pytest.mark.parametrize(("lang", "words"), [("en", "20 MB"), ("zh", "20 MB")])
def test_the_page_shows_what_is_wrong_with_a_file_in_ones_language(lang: str, words: str) -> None:
    html = preview(ROWS, lang)
    assert words in html and "<b>.png" not in html and "&lt;b&gt;.png" in html
    assert ("Neural" in html) == (lang == "en") and ("神经网络法" in html) == (lang == "zh")
    assert "Retrieval" not in html and "检索法" not in html


def test_files_that_are_all_broken_still_say_why() -> None:
    assert "20 MB" in preview(ROWS[1:], "en")


def test_the_page_shows_the_first_rows_only() -> None:
    html = preview([Row(f"{at}.png", neural="a cat") for at in range(SHOWN + 5)], "en")
    assert html.count("<tr>") == SHOWN + 1 and f"{SHOWN + 5} files" in html


class FakeHouse:
    """Notes what is checked and what is run."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.refusal = refusal
        self.checked: list[Any] = []
        self.ran: list[Any] = []

    def params(self, task: str, raw: dict[str, Any], visitor: str) -> None:
        self.checked.append((task, raw, visitor))
        if self.refusal is not None:
            raise self.refusal

    def pipeline(self, task: str) -> Any:
        return types.SimpleNamespace(batch=lambda *values: self.ran.append(values) or Batch((), False, None))


def test_every_file_is_given_the_pages_settings_checked_as_the_visitors(tmp_path: Path) -> None:
    house, job = FakeHouse(), Job()
    (tmp_path / "a.png").write_bytes(b"x")
    asked = {"files": [tmp_path / "a.png"], "values": {"image": "one on the page", "family": "all"}}
    describe_all(house)(asked, "somebody", job)  # type: ignore[arg-type]
    assert house.checked == [("captioning", {"family": "all", "image": BLANK}, "somebody")]
    (sources, given, run) = house.ran[0]
    assert [source.name for source in sources] == ["a.png"] and given == {"family": "all"} and run is job


def test_settings_that_are_refused_keep_the_files_unread(tmp_path: Path) -> None:
    house = FakeHouse(InvalidInput("wrong_base"))
    with pytest.raises(InvalidInput):
        describe_all(house)({"files": [tmp_path / "gone.png"], "values": {}}, "somebody", Job())  # type: ignore[arg-type]
    assert house.ran == []


def test_a_folder_of_the_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="folder_local_only"):
        describe_all(FakeHouse())({"files": [tmp_path], "values": {}}, "somebody", Job())  # type: ignore[arg-type]
