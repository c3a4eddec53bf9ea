"""Writes the averaged weights of a checkpoint as the folder that ships.

python -m training.picto.export --work WORK --out assets/weights/picto-coca
"""

from __future__ import annotations

import argparse
from pathlib import Path

from training.picto import model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    coca, tokenizer = model.trained(options.work)
    model.ship(coca, tokenizer, options.out)
    print(options.out, f"{sum(p.numel() for p in coca.parameters()) / 1e6:.1f} M parameters")


if __name__ == "__main__":
    main()
