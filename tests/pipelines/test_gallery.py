"""The gallery that ships: its pictures, licences and vectors; and how other models' vectors are kept."""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.core.errors import Cancelled, ModelLoadFailed
from pipelines.core.specs import AdapterUse, ModelSpec
from pipelines.core.streaming import Job, Progress, Stop
from pipelines.gallery import FOLDER, KINDS, LISTING, MODEL, Embedder, Gallery, model_key, vectors_file, write_vectors
from tests.tiny.gallery import gallery as tiny_gallery


class Counting:
    """Makes unit rows of a picture's corner and of a text's bytes, and counts what it was given."""

    def __init__(self, key: str = "other@1", stop_after: int = 10**9) -> None:
        self.pictures_read: list[bytes] = []
        self.texts_read: list[str] = []
        self.stop, self.stop_after = Stop(), stop_after
        self.embedder = Embedder(key, self.pictures, self.texts)

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        self.pictures_read += [picture.tobytes() for picture in pictures]
        if len(self.pictures_read) >= self.stop_after:
            self.stop.set()
        return rows([np.asarray(picture)[:2, :2].ravel() for picture in pictures])

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        self.texts_read += texts
        return rows([list(text.encode().ljust(12)[:12]) for text in texts])


def rows(values: Any) -> np.ndarray:
    made = np.array(values, np.float32) - 100
    return made / np.linalg.norm(made, axis=1, keepdims=True)


# -- the one that ships -------------------------------------------------------------------------


def test_every_picture_lies_where_the_listing_says() -> None:
    shipped = Gallery.shipped()
    records = [json.loads(line) for line in (FOLDER / LISTING).read_text(encoding="utf-8").splitlines()]
    assert len(shipped) == len({item.id for item in shipped.items}) == len(records) > 2_000
    for shard in {item.shard for item in shipped.items}:
        with tarfile.open(FOLDER / shard) as tar:
            places = {member.name: (member.offset_data, member.size) for member in tar}
        listed = {record["file"]: (record["offset"], record["size"]) for record in records if record["shard"] == shard}
        assert listed == places
    for index in range(0, len(shipped), 100):
        assert (shipped.picture(index).mode, shipped.picture(index).size) == ("RGB", (128, 128))


def test_only_permissive_licences_ship_and_all_are_named() -> None:
    shipped, text = Gallery.shipped(), (FOLDER / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert {item.licence for item in shipped.items} == {"Apache-2.0", "MIT", "CC-BY-4.0", "public-domain"}
    assert not {item.source for item in shipped.items} & {"OpenMoji", "Tux Paint Stamps"}
    authors = {item.author for item in shipped.items if item.shard == "openclipart.tar"} - {"unknown"}
    assert all(author in text for author in authors)
    for shard, count in Counter(item.shard for item in shipped.items).items():
        line = next(line for line in text.splitlines() if line.startswith(f"| `{shard}`"))
        assert line.endswith(f"| {count} |")
    assert (FOLDER / "licences" / "MIT.txt").is_file() and (FOLDER / "licences" / "Unicode-3.0.txt").is_file()


def test_the_gallery_is_varied_and_small() -> None:
    items = Gallery.shipped().items
    styles = Counter(item.style for item in items)
    assert len(styles) == 9 and styles["clipart"] < len(items) / 2
    assert sum(item.unseen for item in items) > 400
    seen_emoji = [item for item in items if not item.unseen and not item.style.startswith("clipart")]
    assert len({item.concept for item in seen_emoji}) == len(seen_emoji)
    assert sum(bool(item.caption_zh) for item in items) > 0.7 * len(items)
    assert sum(path.stat().st_size for path in FOLDER.glob("*.*") if path.suffix != ".safetensors") < 14e6


@pytest.mark.skipif(not vectors_file(FOLDER).is_file(), reason="python -m training.gallery --embed has not been run")
def test_the_vectors_that_ship_belong_to_the_pictures() -> None:
    shipped = Gallery.shipped()
    for kind in KINDS:
        vectors = shipped.vectors(kind)
        assert vectors.shape == (len(shipped.numbers(kind)), 256) and vectors.dtype == np.float32
        assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    scores = shipped.vectors("captions_en") @ shipped.vectors("pictures").T
    ranks = (scores > np.diag(scores)[:, None]).sum(axis=1)
    assert (ranks < 10).mean() > 0.3  # by chance: 10 in the number of pictures


# -- reading and embedding ----------------------------------------------------------------------


def test_captions_and_numbers(tmp_path: Path) -> None:
    small = tiny_gallery(tmp_path)
    assert len(small.numbers("pictures")) == len(small) == 12
    chinese = small.numbers("captions_zh")
    assert [small.items[number].caption_zh for number in chinese[:4]] == ["红猫", "狗", "红猫", "蓝船"]
    assert small.items[3].caption("zh") == "green tree" and small.items[0].caption("zh") == "红猫"


def test_a_picture_becomes_a_file_of_its_own(tmp_path: Path) -> None:
    small = tiny_gallery(tmp_path)
    path = small.path(2)
    assert path.is_relative_to(tmp_path / "cache") and path.read_bytes() == small.data(2)
    before = path.stat().st_mtime_ns
    assert small.path(2) == path and path.stat().st_mtime_ns == before


def test_vectors_not_made_yet_are_called_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="source_missing"):
        tiny_gallery(tmp_path).vectors("pictures")


def test_a_gallery_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadFailed, match="source_missing"):
        Gallery.read(tmp_path)


def test_written_vectors_are_read_back_and_belong_to_one_listing(tmp_path: Path) -> None:
    small, model = tiny_gallery(tmp_path), Counting(f"{MODEL}@")
    write_vectors(small, model.embedder, Job())
    wanted = model.pictures([small.picture(index) for index in range(len(small))])
    assert np.abs(small.vectors("pictures") - wanted).max() < 1e-3
    assert small.vectors("captions_zh").shape == (len(small.numbers("captions_zh")), 12)
    assert small.embed_with("pictures", model.embedder, Job()) is small.vectors("pictures")
    with (tmp_path / LISTING).open("a", encoding="utf-8") as file:
        file.write((tmp_path / LISTING).read_text(encoding="utf-8").splitlines()[0] + "\n")
    with pytest.raises(ModelLoadFailed, match="file_changed"):
        Gallery.read(tmp_path).vectors("pictures")


def test_another_model_reads_the_gallery_once(tmp_path: Path) -> None:
    small, model = tiny_gallery(tmp_path, 70), Counting()
    events: list[Any] = []
    first = small.embed_with("pictures", model.embedder, Job(emit=events.append))
    assert events[-1] == Progress("index", 70, 70, "pictures") and len(events) == 3
    assert small.embed_with("pictures", model.embedder, Job()) is first
    again = Gallery.read(tmp_path, tmp_path / "cache").embed_with("pictures", model.embedder, Job())
    assert np.array_equal(first, again) and len(model.pictures_read) == 70
    assert small.embed_with("captions_zh", model.embedder, Job()).shape == (len(small.numbers("captions_zh")), 12)
    other = Counting("other@2")
    small.embed_with("pictures", other.embedder, Job())
    assert len(other.pictures_read) == 70


def test_a_stopped_reading_goes_on_where_it_was(tmp_path: Path) -> None:
    small, model = tiny_gallery(tmp_path, 100), Counting(stop_after=60)
    with pytest.raises(Cancelled):
        small.embed_with("pictures", model.embedder, Job(model.stop))
    assert len(model.pictures_read) == 64
    model.stop.__init__()  # type: ignore[misc]
    model.stop_after = 10**9
    whole = small.embed_with("pictures", model.embedder, Job(model.stop))
    assert len(whole) == 100 and len(model.pictures_read) == 100 == len(set(model.pictures_read))


def test_vectors_are_kept_by_model_revision_and_adapters() -> None:
    def spec(revision: str) -> ModelSpec:
        return ModelSpec(
            id="m", task="retrieval", loader="open_clip", source="hf:a/b", revision=revision, size_mb=1, title={},
            license="x", tier="gpu", parameters_m=1, languages=("en",),
        )  # fmt: skip

    use = AdapterUse("lora", 0.5)
    keys = {model_key(spec("a" * 40)), model_key(spec("b" * 40)), model_key(spec("a" * 40), [use])}
    assert len(keys) == 3
