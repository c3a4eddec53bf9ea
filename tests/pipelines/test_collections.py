"""Pictures of one's own: what is taken, what is not, what survives a kill, and who may see and change what."""

from __future__ import annotations

import io
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipelines.core.errors import Cancelled, InvalidInput, TooMany
from pipelines.core.streaming import Job, Progress, Stop
from pipelines.gallery import Embedder
from pipelines.picture_files import sources
from pipelines.retrievers import collections, index
from pipelines.retrievers.collections import BATCH, MAX_COLLECTIONS, Collection, Collections

ROOT = Path(__file__).resolve().parents[2]
HOST = "local"


class Reader:
    """A model that sees the mean colours of the four quarters; counts the pictures it is shown."""

    def __init__(self, key: str = "colours@1") -> None:
        self.count = 0
        self.embedder = Embedder(key, self.pictures, self.texts)

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        self.count += len(pictures)
        made = np.array([np.asarray(picture.resize((2, 2), Image.Resampling.BOX)).ravel() for picture in pictures])
        return np.asarray((made - 127.5) / np.linalg.norm(made - 127.5, axis=1, keepdims=True), np.float32)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        raise AssertionError("nothing is asked in words here")


def picture(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    colours = np.random.default_rng(seed).integers(0, 255, (2, 2, 3), dtype=np.uint8)
    return Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)


def png(seed: int) -> bytes:
    out = io.BytesIO()
    picture(seed).save(out, "PNG")
    return out.getvalue()


def files(folder: Path, seeds: Sequence[int]) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (folder / f"{seed:04}.png").write_bytes(png(seed))
    return [folder / f"{seed:04}.png" for seed in seeds]


@pytest.fixture
def house(tmp_path: Path) -> Collections:
    return Collections(tmp_path / "collections", host=HOST)


@pytest.fixture
def mine(house: Collections) -> Collection:
    return house.create("ann", "holiday")


def nearest(collection: Collection, reader: Reader, seed: int) -> str:
    """The name of the file found with the picture itself as the query."""
    _, ids = collection.search(reader.embedder.key, reader.pictures([picture(seed)]), 1)
    return {item.id: item.name for item in collection.items()}[int(ids[0, 0])]


# -- taking pictures ----------------------------------------------------------------------------


def test_added_pictures_are_found(mine: Collection, tmp_path: Path) -> None:
    reader, events = Reader(), list[object]()
    report = mine.add(files(tmp_path / "in", range(20)), reader.embedder, Job(emit=events.append))
    assert (report.added, report.known, report.broken, len(mine)) == (20, 0, (), 20)
    assert [nearest(mine, reader, seed) for seed in (0, 7, 19)] == ["0000.png", "0007.png", "0019.png"]
    assert events == [Progress("index", 16, 20), Progress("index", 20, 20)]


def test_the_same_content_is_taken_once(mine: Collection, tmp_path: Path) -> None:
    reader, given = Reader(), files(tmp_path / "in", range(3))
    (tmp_path / "in" / "copy.png").write_bytes(png(1))
    report = mine.add([*given, tmp_path / "in" / "copy.png"], reader.embedder, Job())
    assert (report.added, report.known) == (3, 1)
    again = mine.add(given, reader.embedder, Job())
    assert (again.added, again.known, reader.count) == (0, 3, 3)


def test_broken_files_are_listed_and_the_others_taken(mine: Collection, tmp_path: Path) -> None:
    given = files(tmp_path / "in", range(2))
    for name, data in {"notes.txt": b"hello", "cut.png": png(5)[:60], "nothing.png": b""}.items():
        (tmp_path / "in" / name).write_bytes(data)
        given.append(tmp_path / "in" / name)
    report = mine.add([*given, tmp_path / "in" / "gone.png"], Reader().embedder, Job())
    assert report.added == 2
    assert {broken.name: broken.code for broken in report.broken} == {
        "notes.txt": "not_an_image",
        "cut.png": "image_broken",
        "nothing.png": "empty_file",
        "gone.png": "no_such_file",
    }


def test_what_is_kept_is_small_and_what_is_read_is_capped(mine: Collection, tmp_path: Path) -> None:
    seen = []

    def read(pictures: Sequence[Image.Image]) -> np.ndarray:
        seen.extend(one.size for one in pictures)
        return Reader().pictures(pictures)

    picture(1, (2000, 1000)).save(tmp_path / "large.jpg")
    mine.add([tmp_path / "large.jpg"], Embedder("m@1", read, read), Job())  # type: ignore[arg-type]
    assert seen == [(512, 256)]
    assert mine.picture(mine.items()[0].id).size == (256, 128)


def test_a_folder_is_only_for_the_host(house: Collections, mine: Collection, tmp_path: Path) -> None:
    files(tmp_path / "in" / "deeper", range(3))
    files(tmp_path / "in" / ".hidden", range(5, 7))
    with pytest.raises(InvalidInput, match="folder_local_only"):
        mine.add([tmp_path / "in"], Reader().embedder, Job())
    assert house.create(HOST, "mine").add([tmp_path / "in"], Reader().embedder, Job()).added == 3


def test_a_collection_has_its_fill(mine: Collection, tmp_path: Path) -> None:
    mine.limit = 18
    report = mine.add(files(tmp_path / "in", range(20)), Reader().embedder, Job())
    assert (report.added, len(mine)) == (18, 18)
    assert [(one.name, one.code, one.params) for one in report.broken] == [
        (name, "collection_full", {"limit": 18}) for name in ("0018.png", "0019.png")
    ]


# -- archives -----------------------------------------------------------------------------------


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return path


def test_an_archive_is_read_without_unpacking(mine: Collection, tmp_path: Path) -> None:
    """Names that would leave the folder are names only; what systems add to archives is passed over."""
    names = ("../../../slip.png", "/etc/absolute.png", "a/b/plain.png", "..\\windows.png")
    members = {name: png(seed) for seed, name in enumerate(names)}
    members |= {"__MACOSX/a/._plain.png": b"x", "a/.DS_Store": b"x"}
    before = {path for path in tmp_path.rglob("*") if path.suffix == ".png"}
    report = mine.add([archive(tmp_path / "all.zip", members)], Reader().embedder, Job())
    assert (report.added, report.broken) == (4, ())
    assert {item.name for item in mine.items()} == {"slip.png", "absolute.png", "plain.png", "windows.png"}
    assert {path for path in tmp_path.rglob("*") if path.suffix == ".png"} == before


def test_a_bomb_is_not_inflated(mine: Collection, tmp_path: Path) -> None:
    given = archive(tmp_path / "bomb.zip", {"bomb.png": bytes(15 << 20), "huge.png": bytes(30 << 20), "ok.png": png(1)})
    report = mine.add([given], Reader().embedder, Job())
    assert report.added == 1
    assert {one.name: one.code for one in report.broken} == {"bomb.png": "zip_bomb", "huge.png": "file_too_large"}


def test_what_an_archive_inflates_to_in_all_is_capped(
    mine: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.picture_files.MAX_INFLATED", 2 * len(png(0)))
    report = mine.add([archive(tmp_path / "a.zip", {f"{n}.png": png(n) for n in range(6)})], Reader().embedder, Job())
    assert report.added <= 3 and {one.code for one in report.broken} == {"zip_bomb"}


def test_a_member_that_lies_about_its_size_is_cut_off(mine: Collection, tmp_path: Path) -> None:
    given = archive(tmp_path / "liar.zip", {"liar.png": random.Random(1).randbytes(100_000), "ok.png": png(1)})
    data = bytearray(given.read_bytes())
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # the size in the local header and in the table
        at = data.find(mark) + place
        data[at : at + 4] = (50).to_bytes(4, "little")
    given.write_bytes(data)
    report = mine.add([given], Reader().embedder, Job())
    assert (report.added, [one.code for one in report.broken]) == (1, ["zip_broken"])


def test_archives_that_cannot_be_read_are_listed(mine: Collection, tmp_path: Path) -> None:
    good = archive(tmp_path / "good.zip", {"a.png": png(1)}).read_bytes()
    (tmp_path / "cut.zip").write_bytes(good[:-30])
    (tmp_path / "head.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    archive(tmp_path / "lzma.zip", {"a.png": png(1)}, zipfile.ZIP_LZMA)
    locked = bytearray(good)
    locked[6] |= 1  # encrypted, says the local header …
    locked[good.find(b"PK\x01\x02") + 8] |= 1  # … and the table
    (tmp_path / "locked.zip").write_bytes(locked)
    archive(tmp_path / "nested.zip", {"inner.zip": good})
    given = [tmp_path / f"{name}.zip" for name in ("cut", "head", "lzma", "locked", "nested")]
    report = mine.add(given, Reader().embedder, Job())
    assert report.added == 0
    assert [(one.name, one.code) for one in report.broken] == [
        ("cut.zip", "zip_broken"),
        ("head.zip", "zip_broken"),
        ("a.png", "zip_locked"),
        ("a.png", "zip_locked"),
        ("inner.zip", "not_an_image"),
    ]


def test_an_archive_with_an_endless_table_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a large table nor by the 64-bit one that hides behind a small one."""
    given = archive(tmp_path / "many.zip", {f"{number}.png": b"" for number in range(50)})
    monkeypatch.setattr("pipelines.picture_files.MAX_LISTING", 1000)
    opened = []
    monkeypatch.setattr(zipfile, "ZipFile", lambda *given: opened.append(given))
    with pytest.raises(InvalidInput, match="zip_too_large"):
        sources([given], folders=False)[0].read()
    monkeypatch.setattr("pipelines.picture_files.MAX_LISTING", 10**6)
    data = given.read_bytes()
    (tmp_path / "64.zip").write_bytes(data[:-22] + b"PK\x06\x07" + bytes(16) + data[-22:])
    with pytest.raises(InvalidInput, match="zip_too_large"):
        sources([tmp_path / "64.zip"], folders=False)[0].read()
    assert not opened


# -- going on -----------------------------------------------------------------------------------


def test_a_stop_keeps_the_batches_before(mine: Collection, tmp_path: Path) -> None:
    reader, stop, given = Reader(), Stop(), files(tmp_path / "in", range(40))

    def emit(event: object) -> None:
        if isinstance(event, Progress) and event.done >= 2 * BATCH:
            stop.set()

    with pytest.raises(Cancelled):
        mine.add(given, reader.embedder, Job(stop, emit))  # type: ignore[arg-type]
    assert len(mine) == reader.count == 2 * BATCH
    report = mine.add(given, reader.embedder, Job())
    assert (report.added, report.known, reader.count) == (40 - 2 * BATCH, 2 * BATCH, 40)


CHILD = """
import sys, time
from pathlib import Path
from pipelines.core.streaming import Job
from pipelines.gallery import Embedder
from pipelines.retrievers.collections import Collections
from tests.pipelines.test_collections import Reader

root, given, log = map(Path, sys.argv[1:])
reader = Reader()

def read(pictures):
    rows = reader.pictures(pictures)
    with log.open("a") as file:
        file.writelines(picture.tobytes()[:3].hex() + picture.tobytes()[-3:].hex() + chr(10) for picture in pictures)
    time.sleep(0.05)
    return rows

collection = Collections(root, host="local").create("local", "host:mine")
report = collection.add([given], Embedder(reader.embedder.key, read, read), Job())
print(report.added, report.known)
"""


def test_a_kill_loses_at_most_the_batch_in_hand(tmp_path: Path) -> None:
    """A process of its own, killed twice in the middle, and once more run to the end."""
    files(tmp_path / "in", range(90))
    log = tmp_path / "log"
    command = [sys.executable, "-c", CHILD, str(tmp_path / "collections"), str(tmp_path / "in"), str(log)]
    embedded = stored = 0
    for killed_at in (30, 60):
        child = subprocess.Popen(command, cwd=ROOT)
        while not log.exists() or len(log.read_text().splitlines()) < killed_at:
            assert child.poll() is None
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        now = len(log.read_text().splitlines())
        kept = len(Collections(tmp_path / "collections", host=HOST).open(HOST, "host:mine"))
        assert 0 <= (now - embedded) - (kept - stored) <= BATCH
        embedded, stored = now, kept
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    collection = Collections(tmp_path / "collections", host=HOST).open(HOST, "host:mine")
    assert done.stdout.split() == [str(90 - stored), str(stored)] and len(collection) == 90
    assert len(log.read_text().splitlines()) == embedded + 90 - stored
    assert nearest(collection, Reader(), 41) == "0041.png"


def test_another_model_reads_what_is_kept(mine: Collection, tmp_path: Path) -> None:
    mine.add(files(tmp_path / "in", range(20)), Reader().embedder, Job())
    other = Reader("other@1")
    with pytest.raises(InvalidInput, match="collection_empty"):
        mine.search("other@1", np.zeros((1, 12), np.float32), 1)
    assert (mine.complete(other.embedder, Job()), mine.complete(other.embedder, Job()), other.count) == (20, 0, 20)
    assert nearest(mine, other, 13) == "0013.png"


def test_models_without_a_vector_catch_up_when_pictures_are_added(mine: Collection, tmp_path: Path) -> None:
    mine.add(files(tmp_path / "in", range(5)), Reader().embedder, Job())
    other = Reader("other@1")
    mine.add(files(tmp_path / "more", range(5, 8)), other.embedder, Job())
    assert other.count == 8 and nearest(mine, other, 2) == "0002.png"


# -- the index ----------------------------------------------------------------------------------


@pytest.mark.parametrize("exact_up_to", [20_000, 25])
def test_the_index_follows_what_is_added_and_removed(
    mine: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exact_up_to: int
) -> None:
    """Below and above the number of pictures from which search is quantized."""
    monkeypatch.setattr(index, "EXACT_UP_TO", exact_up_to)
    reader = Reader()
    mine.add(files(tmp_path / "in", range(28)), reader.embedder, Job())
    assert nearest(mine, reader, 7) == "0007.png"
    gone = [item.id for item in mine.items() if item.name in ("0007.png", "0008.png")]
    assert mine.remove(gone) == 2
    assert nearest(mine, reader, 7) != "0007.png"
    mine.add(files(tmp_path / "more", range(28, 40)), reader.embedder, Job())
    assert [nearest(mine, reader, seed) for seed in (9, 31, 39)] == ["0009.png", "0031.png", "0039.png"]
    with mine.index(reader.embedder.key) as made:
        assert len(made) == len(mine) == 38 and made.exact is (exact_up_to > 38)
    with pytest.raises(InvalidInput, match="picture_gone"):
        mine.picture(gone[0])


def test_a_large_index_is_stored_and_mended_from_the_pictures(
    house: Collections, mine: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "EXACT_UP_TO", 25)
    reader = Reader()
    mine.add(files(tmp_path / "in", range(32)), reader.embedder, Job())
    assert nearest(mine, reader, 7) == "0007.png"
    (stored,) = mine.folder.glob("*.index")
    mine.remove([mine.items()[7].id])
    fresh = Collections(house.root, host=HOST).open("ann", "holiday")
    loads: list[Path] = []
    monkeypatch.setattr(collections.indices, "load", lambda path, load=index.load: loads.append(path) or load(path))
    assert nearest(fresh, reader, 8) == "0008.png" and nearest(fresh, reader, 7) != "0007.png"
    assert loads == [stored]
    stored.write_bytes(stored.read_bytes()[:100])
    assert nearest(Collections(house.root, host=HOST).open("ann", "holiday"), reader, 8) == "0008.png"


def test_searching_while_adding(mine: Collection, tmp_path: Path) -> None:
    reader = Reader()
    mine.add(files(tmp_path / "in", range(3)), reader.embedder, Job())
    more, failed = files(tmp_path / "more", range(3, 35)), list[BaseException]()

    def add() -> None:
        try:
            mine.add(more, Reader().embedder, Job())
        except BaseException as error:  # noqa: BLE001 - shown below
            failed.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    while thread.is_alive():
        assert nearest(mine, reader, 1) == "0001.png"
    assert not failed and nearest(mine, reader, 34) == "0034.png"


# -- whose --------------------------------------------------------------------------------------


def test_visitors_see_their_own_and_the_hosts(house: Collections, mine: Collection, tmp_path: Path) -> None:
    house.create("bob", "cats")
    house.create(HOST, "host:museum").add(files(tmp_path / "in", range(2)), Reader().embedder, Job())
    assert [(one.name, one.pictures, one.writable) for one in house.list("ann")] == [
        ("holiday", 0, True),
        ("host:museum", 2, False),
    ]
    with pytest.raises(InvalidInput) as unknown:
        house.open("ann", "cats")
    assert (unknown.value.code, unknown.value.params["known"]) == ("unknown_collection", "holiday, host:museum")
    assert nearest(house.open("bob", "host:museum"), Reader(), 1) == "0001.png"


def test_only_the_host_changes_what_is_the_hosts(house: Collections, tmp_path: Path) -> None:
    house.create(HOST, "host:museum").add(files(tmp_path / "in", range(2)), Reader().embedder, Job())
    seen = house.open("ann", "host:museum")
    for change in (
        lambda: seen.add([], Reader().embedder, Job()),
        lambda: seen.remove([1]),
        lambda: house.delete("ann", "host:museum"),
        lambda: house.create("ann", "host:other"),
    ):
        with pytest.raises(InvalidInput, match="collection_read_only"):
            change()
    assert Collections(house.root, host=HOST, shared=True).create("ann", "host:museum").remove([1]) == 1


@pytest.mark.parametrize("name", ["", "  ", "shipped", "host:", "host: ", "a:b", "x" * 61, "a\nb", "host:host:x"])
def test_names_that_cannot_be(house: Collections, name: str) -> None:
    with pytest.raises(InvalidInput, match="bad_collection_name"):
        house.create("ann", name)


def test_a_name_is_never_a_path(house: Collections, tmp_path: Path) -> None:
    made = house.create("../../ann", "../../../escape/图库")
    assert made.folder.resolve().is_relative_to(house.root.resolve())
    assert house.list("../../ann")[0].name == "../../../escape/图库"


def test_one_visitor_has_so_many_and_no_more(house: Collections) -> None:
    for number in range(MAX_COLLECTIONS):
        house.create("ann", f"{number}")
    house.create("ann", "0")  # it is there
    with pytest.raises(TooMany, match="too_many_collections"):
        house.create("ann", "one more")
    house.delete("ann", "3")
    house.create("ann", "one more")


def test_a_deleted_collection_is_gone_from_disk_and_memory(
    house: Collections, mine: Collection, tmp_path: Path
) -> None:
    reader = Reader()
    mine.add(files(tmp_path / "in", range(3)), reader.embedder, Job())
    nearest(mine, reader, 1)
    house.delete("ann", "holiday")
    assert not mine.folder.exists() and house.list("ann") == ()
    with pytest.raises(InvalidInput, match="unknown_collection"):
        len(mine)
    house.create("ann", "holiday").add(files(tmp_path / "in", [5]), reader.embedder, Job())
    assert nearest(house.open("ann", "holiday"), reader, 1) == "0005.png"


def test_old_collections_of_visitors_are_forgotten(house: Collections, mine: Collection) -> None:
    kept = [house.create(HOST, "host:museum"), house.create(HOST, "own")]
    for one in (mine, *kept):
        os.utime(one.folder, (0, 0))
    used = house.create("bob", "cats")
    assert house.forget_old(3600) == 1
    assert not mine.folder.exists() and all(one.folder.exists() for one in (used, *kept))


def test_a_damaged_file_is_named_and_can_be_deleted(house: Collections, mine: Collection) -> None:
    (mine.folder / "pictures.sqlite").write_bytes(b"not a database at all, whatever it says" * 50)
    with pytest.raises(InvalidInput, match="collection_broken"):
        len(mine)
    assert house.list("ann") == ()
    house.delete("ann", "holiday")
    assert len(house.create("ann", "holiday")) == 0


def test_removed_pictures_leave_no_bytes_behind(mine: Collection, tmp_path: Path) -> None:
    mine.add(files(tmp_path / "in", range(2)), Reader().embedder, Job())
    with sqlite3.connect(mine.folder / "pictures.sqlite") as file:
        (thumbnail,) = file.execute("SELECT thumbnail FROM pictures WHERE name = '0001.png'").fetchone()
    file.close()
    mine.remove([item.id for item in mine.items() if item.name == "0001.png"])
    assert not any(thumbnail[20:] in path.read_bytes() for path in mine.folder.iterdir())
