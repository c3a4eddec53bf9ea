"""The one entry: without a command it serves the page and its APIs; with one it runs a pipeline and ends."""

from __future__ import annotations

import sys

from demos.cli import main

if __name__ == "__main__":
    sys.exit(main())
