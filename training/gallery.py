"""The gallery that ships with the app: chosen and packed from the pictures, then embedded by the starter model.

    python -m training.gallery --data DATA     choose and pack into assets/gallery: always the same files
    python -m training.gallery --embed         write assets/gallery/picto-coca.safetensors, when the weights are there

DATA is the folder of `train.jsonl`, `val.jsonl` and `images/`. Taken are: every permissive picture of the unseen
concepts (`unseen`), all clip art with a Chinese caption, each emoji concept once, its style drawn so that the styles
come out even, and further clip art from each category in turn. A picture that training keeps aside to measure with
(a seen concept in an unseen style) is not taken: whatever is not `unseen` was learnt from.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, zip_longest
from pathlib import Path

from pipelines.core.settings import Settings
from pipelines.gallery import FOLDER, LISTING, MODEL, Embedder, Gallery, model_key, vectors_file, write_vectors
from training.picto import records
from training.picto.records import Record

TOTAL = 2_700
LICENCES = {"Apache-2.0", "MIT", "CC-BY-4.0", "public-domain"}
KEPT_FIELDS = (
    "caption_en", "caption_zh", "keywords_en", "keywords_zh", "concept", "category", "style", "source", "licence",
)  # fmt: skip
SHARDS = {
    "Noto Emoji": "noto",
    "Noto Emoji (2016 blob design)": "noto",
    "Twemoji": "twemoji",
    "Fluent Emoji": "fluent",
    "FxEmojis": "fxemoji",
    "Open Clip Art Library 0.18": "openclipart",
}
AUTHORS = {
    "noto": "Google",
    "twemoji": "Twitter, Inc and other contributors",
    "fluent": "Microsoft",
    "fxemoji": "Mozilla Foundation",
    "openclipart": "unknown",  # where the file names nobody
}
SOURCES = """\
| shard | source | copyright | licence | pictures |
|---|---|---|---|---|
| `noto.tar` | Noto Emoji, both designs, <https://github.com/googlefonts/noto-emoji> | Google Inc. and contributors \
| Apache-2.0 (`../../LICENSE` has its text) | {noto} |
| `twemoji.tar` | Twemoji, <https://github.com/jdecked/twemoji> | Twitter, Inc and other contributors \
| CC BY 4.0, <https://creativecommons.org/licenses/by/4.0/> | {twemoji} |
| `fluent.tar` | Fluent Emoji, <https://github.com/microsoft/fluentui-emoji> | Microsoft Corporation \
| MIT (`licences/MIT.txt`) | {fluent} |
| `fxemoji.tar` | FxEmojis, <https://github.com/mozilla/fxemoji> | 2015 Mozilla Foundation \
| CC BY 4.0, <https://creativecommons.org/licenses/by/4.0/> | {fxemoji} |
| `openclipart.tar` | Open Clip Art Library 0.18 | none: dedicated to the public domain by the authors below \
| public domain | {openclipart} |
"""


def choose(train: Sequence[Record], val: Sequence[Record]) -> list[Record]:
    """TOTAL records or fewer, sorted by shard and id; those of `val` carry `unseen`."""
    learnt, _ = records.split_styles(records.permissive(train))
    allowed = [record for record in learnt if record["licence"] in LICENCES]
    unseen = [record for record in val if record["licence"] in LICENCES]
    drawings = [record for record in allowed if record["style"].startswith("clipart")]
    chinese = [record for record in drawings if record["caption_zh"]]
    emoji = one_style_each([record for record in allowed if not record["style"].startswith("clipart")])
    left = TOTAL - len(unseen) - len(chinese) - len(emoji)
    known = {record["concept"] for record in chinese + emoji}
    more = category_by_category([record for record in drawings if record["concept"] not in known])[: max(left, 0)]
    chosen = [record | {"unseen": False} for record in chinese + emoji + more]
    chosen += [record | {"unseen": True} for record in unseen]
    return sorted(chosen, key=lambda record: (shard_of(record), record["id"]))


def one_style_each(emoji: Iterable[Record]) -> list[Record]:
    """Every concept once: in the style that has the fewest so far, the first of its pictures (person, not man)."""
    by_concept: dict[str, list[Record]] = defaultdict(list)
    for record in emoji:
        by_concept[record["concept"]].append(record)
    used: Counter[str] = Counter()
    taken = []
    for concept in sorted(by_concept, key=_shuffled):
        found = by_concept[concept]
        style = min({record["style"] for record in found}, key=lambda name: (used[name], _shuffled(concept + name)))
        used[style] += 1
        taken.append(min((record for record in found if record["style"] == style), key=lambda record: record["id"]))
    return taken


def category_by_category(drawings: Iterable[Record]) -> list[Record]:
    """One picture a concept, the categories taking turns, so that the largest does not fill the gallery."""
    first: dict[str, Record] = {}
    for record in sorted(drawings, key=lambda record: _shuffled(record["id"])):
        first.setdefault(record["concept"], record)
    by_category: dict[str, list[Record]] = defaultdict(list)
    for record in first.values():
        by_category[record["category"]].append(record)
    turns = zip_longest(*(by_category[name] for name in sorted(by_category)))
    return [record for record in chain.from_iterable(turns) if record is not None]


def shard_of(record: Record) -> str:
    return SHARDS[record["source"]]


def pack(data: Path, chosen: Sequence[Record], folder: Path) -> None:
    """The tars, the listing and the attributions; the same records give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.tar"):
        old.unlink()
    by_shard: dict[str, list[Record]] = defaultdict(list)
    for record in chosen:
        by_shard[shard_of(record)].append(record)
    lines = []
    for shard, members in by_shard.items():
        for record, (offset, size) in zip(members, _write_tar(data, folder / f"{shard}.tar", members), strict=True):
            lines.append(_line(record, shard, offset, size))
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / LISTING).write_text(text, encoding="utf-8")
    counts = {shard: len(members) for shard, members in by_shard.items()}
    (folder / "ATTRIBUTION.md").write_text(attribution(lines, counts), encoding="utf-8")


def _write_tar(data: Path, path: Path, members: Sequence[Record]) -> Iterator[tuple[int, int]]:
    """Copy the WebPs as they are; (offset of its bytes in the tar, size) of each. GNU format: names are ASCII."""
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as out:
        sources: dict[str, tarfile.TarFile] = {}
        for record in members:
            if record["shard"] not in sources:
                sources[record["shard"]] = tarfile.open(data / "images" / record["shard"])  # noqa: SIM115 - closed below
            member = sources[record["shard"]].extractfile(record["file"])
            assert member is not None, record["file"]
            info = tarfile.TarInfo(record["file"])
            content = member.read()
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
            yield out.offset - -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, info.size
        for source in sources.values():
            source.close()


def _line(record: Record, shard: str, offset: int, size: int) -> Record:
    place = {"id": record["id"], "shard": f"{shard}.tar", "file": record["file"], "offset": offset, "size": size}
    kept = {name: record[name] for name in KEPT_FIELDS}
    author = without_address(record.get("author") or AUTHORS[shard])
    return place | kept | {"author": author, "unseen": record["unseen"]}


def without_address(author: str) -> str:
    """A name without the e-mail address behind it; of a bare address, the part that names the person."""
    author = author.removeprefix("mailto:")
    name = re.sub(r"[\s(<-]*\S+@[^\s)>]+[)>]?", "", author).strip()
    return name or author.split("@")[0].strip(" (<")


def attribution(lines: Sequence[Record], counts: dict[str, int]) -> str:
    named = {line["author"] for line in lines if line["shard"] == "openclipart.tar"} - {AUTHORS["openclipart"]}
    return f"""# The gallery's pictures: where they come from

{len(lines):,} pictures, 128x128 WebP, in uncompressed tars, one for each source. `{LISTING}` has the caption,
licence and author of each. Written by `python -m training.gallery`; not by hand.

{SOURCES.format(**dict.fromkeys(AUTHORS, 0) | counts)}
All pictures were changed: rendered or cropped, put on white, scaled to 128x128, reduced in colours, stored as WebP.

Emoji names and keywords in English and Chinese are those of Unicode CLDR, Copyright (c) 1991-2026 Unicode, Inc.
(`licences/Unicode-3.0.txt`), as packed by emojibase-data, Copyright (c) 2017-2019 Miles Johnson, MIT
(`licences/MIT.txt`); flags, keycaps and the like are reworded. Captions of the clip art are the titles in the files,
in part translated or rewritten.

## Authors of the clip art

{", ".join(sorted(named, key=lambda name: (name.casefold(), name)))}.
"""


def embed(folder: Path) -> None:
    """Pictures and captions by the starter model, through the house's own loader and towers."""
    from pipelines.core.streaming import Job
    from pipelines.house import House
    from pipelines.retrievers.towers import towers

    house, gallery = House(Settings.read()), Gallery.read(folder)
    spec = house.catalog.model(MODEL)
    with house.registry.lease(MODEL) as lease:
        read = towers(spec.loader, spec.options.get("cls", ""))
        embedder = Embedder(
            key=model_key(spec),
            pictures=lambda pictures: read.pictures(lease.model, pictures).cpu().numpy(),
            texts=lambda texts: read.texts(lease.model, texts).cpu().numpy(),
        )
        write_vectors(gallery, embedder, Job())
    house.close()
    print(f"{vectors_file(folder)}: {len(gallery.items)} pictures")


def _shuffled(text: str) -> str:
    """An order that has nothing to do with the alphabet, and is always the same."""
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of train.jsonl, val.jsonl and images/")
    parser.add_argument("--embed", action="store_true", help="write the vectors of the starter model")
    parser.add_argument("--out", type=Path, default=FOLDER)
    asked = parser.parse_args()
    if not asked.data and not asked.embed:
        parser.error("say what to do: --data FOLDER, --embed, or both")
    if asked.data:
        chosen = choose(records.read(asked.data / "train.jsonl"), records.read(asked.data / "val.jsonl"))
        vectors_file(asked.out).unlink(missing_ok=True)  # of other pictures, perhaps
        pack(asked.data, chosen, asked.out)
        print(f"{asked.out}: {len(chosen)} pictures, {dict(Counter(record['style'] for record in chosen))}")
        size = sum(path.stat().st_size for path in asked.out.iterdir() if path.is_file())
        print(f"{size / 1e6:.1f} MB")
    if asked.embed:
        embed(asked.out)


if __name__ == "__main__":
    main()
