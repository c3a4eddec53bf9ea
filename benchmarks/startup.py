"""Start-up claim: from process start to the first page, at most 1.3x a bare six-tab Gradio app, in the same run.

    python -m benchmarks.startup [rounds]

Both are started in turn, each in a fresh process, and asked for `/` until it answers 200.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
GOAL = 1.3
_QUIET = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def first_page(command: list[str], port: int, patience: float = 120.0) -> tuple[float, float]:
    """Seconds from process start to the first 200 on `/`, and resident MiB at that moment."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **_QUIET}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while time.perf_counter() - started < patience:
            if process.poll() is not None:
                raise SystemExit(f"{command} ended with {process.returncode} before it answered")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    if answer.status == 200:
                        seconds = time.perf_counter() - started
                        return seconds, psutil.Process(process.pid).memory_info().rss / 2**20
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.01)
        raise SystemExit(f"{command} did not answer in {patience} s")
    finally:
        process.terminate()
        process.wait(30)


def main(rounds: int = 5) -> None:
    figures: dict[str, list[tuple[float, float]]] = {"bare gradio, six tabs": [], "synesthesia": []}
    for _ in range(rounds):
        port = free_port()
        bare = [sys.executable, "-m", "benchmarks.bare_gradio", str(port)]
        figures["bare gradio, six tabs"].append(first_page(bare, port))
        port = free_port()
        figures["synesthesia"].append(first_page([sys.executable, "app.py", "--port", str(port)], port))
    base = statistics.median(seconds for seconds, _ in figures["bare gradio, six tabs"])
    print(f"{'server':24} {'first page s (min-max)':>26} {'RSS MiB':>8} {'ratio':>6}")
    for name, rows in figures.items():
        times = [seconds for seconds, _ in rows]
        middle = statistics.median(times)
        spread = f"{middle:.2f} ({min(times):.2f}-{max(times):.2f})"
        print(f"{name:24} {spread:>26} {statistics.median(r for _, r in rows):8.0f} {middle / base:6.2f}")
    print(f"goal: ratio <= {GOAL}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
