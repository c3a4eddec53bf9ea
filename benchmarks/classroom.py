"""Classroom claim: 32 visitors ask one machine at once; all are answered, in fair turns, and the server stays awake.

    python -m benchmarks.classroom [visitors] [tokens]

Baseline of the same run: one visitor alone asking the same question. Fairness is Jain's index over the tokens each
visitor got in the time all were waiting (1 = equal). Needs the starter chat model.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time

import httpx

from benchmarks.startup import ROOT, free_port

GOALS = "goals: 0 errors, fairness >= 0.98, health p99 <= 200 ms"


async def ask(url: str, seed: int, tokens: int) -> tuple[float, int]:
    """One visitor with a cookie of its own: seconds until the whole answer was there, and its tokens."""
    async with httpx.AsyncClient(base_url=url, timeout=600) as client:
        await client.get("/")  # brings the cookie that names the visitor
        body = {
            "model": "smollm2-135m",
            "messages": [{"role": "user", "content": "Tell me a long story about the sea."}],
            "max_tokens": tokens,
            "seed": seed,
        }
        started = time.perf_counter()
        answer = await client.post("/v1/chat/completions", json=body)
        answer.raise_for_status()
        return time.perf_counter() - started, answer.json()["usage"]["completion_tokens"]


async def watch_health(url: str, seconds: list[float]) -> None:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        while True:
            started = time.perf_counter()
            (await client.get("/healthz")).raise_for_status()
            seconds.append(time.perf_counter() - started)
            await asyncio.sleep(0.1)


async def wait_for(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        for _ in range(600):
            try:
                return (await client.get("/healthz")).raise_for_status() and None
            except httpx.TransportError:
                await asyncio.sleep(0.1)
    raise SystemExit("the server did not start")


async def measure(url: str, visitors: int, tokens: int) -> None:
    await wait_for(url)
    await ask(url, 0, 4)  # loads the model
    alone, _ = await ask(url, 0, tokens)
    health: list[float] = []
    watcher = asyncio.create_task(watch_health(url, health))
    started = time.perf_counter()
    found = await asyncio.gather(*(ask(url, seed, tokens) for seed in range(visitors)), return_exceptions=True)
    whole = time.perf_counter() - started
    watcher.cancel()
    good = [row for row in found if not isinstance(row, BaseException)]
    counts = [count for _, count in good]
    jain = sum(counts) ** 2 / (visitors * sum(count * count for count in counts)) if good else 0.0
    p99 = statistics.quantiles(health, n=100)[98] * 1000
    print(f"one visitor alone        {alone:8.1f} s")
    ratio = whole / (alone * visitors)
    print(f"{visitors} visitors, the last     {whole:8.1f} s   {ratio:.2f} x as long as one by one")
    print(f"errors                   {visitors - len(good):8d}")
    print(f"fairness (Jain)          {jain:8.3f}")
    print(f"health p99               {p99:8.0f} ms")
    print(GOALS)


def main(visitors: int = 32, tokens: int = 32) -> None:
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "app.py", "--offline", "--port", str(port)], cwd=ROOT, env=os.environ.copy()
    )
    try:
        asyncio.run(measure(f"http://127.0.0.1:{port}", visitors, tokens))
    finally:
        server.terminate()
        server.wait(60)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:3]))
