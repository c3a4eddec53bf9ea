"""Writes the sets that `python app.py evaluate` measures the starter model with.

    python -m training.picto.sets --data DATA --out DIR

`unseen-concepts.jsonl` is the whole val split, `unseen-style.jsonl` the pictures of seen concepts whose style was kept
aside. `images` beside them links to the data's shards.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from training.picto import records


def write(path: Path, found: Sequence[records.Record]) -> None:
    lines = [json.dumps(record, ensure_ascii=False) for record in found]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(path, len(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    shards = options.out / "images"
    if not shards.exists():
        shards.symlink_to((options.data / "images").resolve(), target_is_directory=True)
    _, aside = records.split_styles(records.permissive(records.read(options.data / "train.jsonl")))
    write(options.out / "unseen-concepts.jsonl", records.read(options.data / "val.jsonl"))
    write(options.out / "unseen-style.jsonl", aside)


if __name__ == "__main__":
    main()
