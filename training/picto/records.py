"""The pictures and captions that may be learnt from, and what is kept aside to measure with.

Only permissive sources are learnt from. For one concept in ten that is drawn in at least three styles, one style is
kept aside: seen concepts in an unseen style. Unseen concepts are the data's own val split.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SHARE_ALIKE = {"CC-BY-SA-4.0", "GPL-2.0-or-later"}  # never learnt from by weights that ship
MIN_STYLES = 3
ASIDE = 0.10  # of the concepts

Record = dict[str, Any]


def read(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def permissive(records: Iterable[Record]) -> list[Record]:
    return [record for record in records if record["licence"] not in SHARE_ALIKE]


def split_styles(records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """(learnt from, kept aside): the split hangs on a hash of the concept alone."""
    styles: dict[str, set[str]] = defaultdict(set)
    for record in records:
        styles[record["concept"]].add(record["style"])
    aside = {
        concept: sorted(found)[_draw(concept + "style", len(found))]
        for concept, found in styles.items()
        if len(found) >= MIN_STYLES and _draw(concept, 1000) < ASIDE * 1000
    }
    kept = [record for record in records if aside.get(record["concept"]) != record["style"]]
    return kept, [record for record in records if aside.get(record["concept"]) == record["style"]]


def pictures(folder: Path, records: Sequence[Record]) -> np.ndarray:
    """uint8 [n, 128, 128, 3], in the order of the records."""
    out = np.empty((len(records), 128, 128, 3), dtype=np.uint8)
    places: dict[str, list[int]] = defaultdict(list)
    for at, record in enumerate(records):
        places[record["shard"]].append(at)
    for shard, rows in places.items():
        with tarfile.open(folder / "images" / shard) as tar:
            for at in rows:
                member = tar.extractfile(records[at]["file"])
                assert member is not None, records[at]["file"]
                out[at] = np.asarray(Image.open(io.BytesIO(member.read())).convert("RGB"))
    return out


def _draw(text: str, low: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % low
