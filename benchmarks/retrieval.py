"""Search among 100,000 pictures, and reading one's own 1,000: the claims of the retrieval tab, in one run.

    python -m benchmarks.retrieval [--vectors FILE] [--count N] [--skip-resume]

The vectors are the starter model's of the gallery that ships, and perturbed copies of them: each copy lies about as
far from its picture as pictures lie from their nearest neighbours, so there are no separate clusters, which would
flatter every index. Queries are further copies, and the captions of the gallery. Exits 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
import psutil
from safetensors.numpy import load_file

from benchmarks.table import show
from pipelines.gallery import FOLDER, vectors_file
from pipelines.retrievers.collections import BATCH
from pipelines.retrievers.index import EXACT_UP_TO, Exact, Quantized

COUNT, QUERIES, TOP = 100_000, 500, 10
RECALL, RATIO = 0.98, 25.0
WINDOWS, SECONDS = 5, 1.0  # of single queries, for each index in turn
SHARE_OF_OWN = 0.2  # of a perturbation: evenly in all directions; the rest as the gallery itself is spread
PICTURES, KILLED_AT = 1_000, 0.5

Search = Callable[[np.ndarray], np.ndarray]  # one query [1, d] -> ids [1, TOP]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One index, built."""

    name: str
    search: Callable[[np.ndarray], np.ndarray]
    seconds: float  # to build
    bytes: int


# -- vectors ------------------------------------------------------------------------------------


class Perturbed:
    """Copies of gallery rows, moved by so much that a copy is as near to its origin as the median picture is to
    another one."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows, self.random = rows, np.random.default_rng(0)
        self.spread = rows - rows.mean(axis=0)
        scores = rows @ rows.T
        np.fill_diagonal(scores, -1)
        self.nearest = float(np.median(scores.max(axis=1)))
        self.scale = self._scale()

    def __call__(self, count: int) -> np.ndarray:
        return np.concatenate([self._some(min(5_000, count - at), self.scale)[0] for at in range(0, count, 5_000)])

    def _scale(self) -> float:
        """By halving: the larger the perturbation, the less a copy is like its origin."""
        low, high = 0.0, 16.0
        for _ in range(30):
            middle = (low + high) / 2
            copies, origins = self._some(1_000, middle)
            near = float(np.median((copies * self.rows[origins]).sum(axis=1)))
            low, high = (middle, high) if near > self.nearest else (low, middle)
        return low

    def _some(self, count: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
        origins = self.random.integers(0, len(self.rows), count)
        weights = self.random.normal(size=(count, len(self.rows))).astype(np.float32) / np.sqrt(len(self.rows))
        noise = weights @ self.spread
        even = self.random.normal(size=noise.shape).astype(np.float32)
        even *= np.linalg.norm(noise, axis=1, keepdims=True) / np.linalg.norm(even, axis=1, keepdims=True)
        moved = self.rows[origins] + scale * ((1 - SHARE_OF_OWN) * noise + SHARE_OF_OWN * even)
        return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float32), origins


def prepare(path: Path, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Rows to search among, and queries of two kinds; says how hard they are."""
    arrays = {name: _unit(rows) for name, rows in load_file(path).items()}
    perturb = Perturbed(arrays["pictures"])
    rows = np.concatenate([arrays["pictures"], perturb(count - len(arrays["pictures"]))])
    choice = np.random.default_rng(1)
    captions = np.concatenate([arrays["captions_en"], arrays["captions_zh"]])
    texts = captions[choice.choice(len(captions), QUERIES, replace=False)]
    asked = {"pictures": perturb(QUERIES), "texts": texts}
    print(
        f"{len(rows):,} vectors of {rows.shape[1]} dimensions: {len(arrays['pictures']):,} pictures and copies of them"
    )
    print(f"  picture and nearest neighbour: cosine {perturb.nearest:.3f} (median), as picture and copy")
    for name, queries in asked.items():
        scores = np.sort(queries @ rows.T, axis=1)[:, ::-1]
        at = ", ".join(f"{scores[:, rank - 1].mean():.3f} ({rank})" for rank in (1, 2, 10, 100))
        print(f"  {name} as queries: mean cosine of the nearest {at}, of all {scores.mean():.3f}")
    return rows, asked


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# -- indices ------------------------------------------------------------------------------------


def build(rows: np.ndarray) -> list[Candidate]:
    """The baseline, our two, and the graph that others use."""
    ids, made = np.arange(len(rows)), []
    exact, quantized = Exact(rows.shape[1]), Quantized(rows.shape[1])
    flat = faiss.IndexFlatIP(rows.shape[1])
    graph = faiss.IndexHNSWFlat(rows.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction, graph.hnsw.efSearch = 100, 64
    for name, add, search in (
        ("faiss FlatIP", lambda: flat.add(rows), lambda queries: flat.search(queries, TOP)[1]),
        ("exact (ours: numpy)", lambda: exact.add(ids, rows), lambda queries: exact.search(queries, TOP)[1]),
        ("quantized (ours: faiss PQ fs)", lambda: quantized.add(ids, rows), lambda q: quantized.search(q, TOP)[1]),
        ("faiss HNSW16, ef 64", lambda: graph.add(rows), lambda queries: graph.search(queries, TOP)[1]),
    ):
        gc.collect()
        before, started = psutil.Process().memory_info().rss, time.perf_counter()
        add()
        seconds = time.perf_counter() - started
        made.append(Candidate(name, search, seconds, psutil.Process().memory_info().rss - before))
    return made


def rates(made: list[Candidate], queries: np.ndarray) -> dict[str, float]:
    """Single queries a second: the median of windows, the indices taking turns, so that a busy moment hits all."""
    counted: dict[str, list[float]] = {one.name: [] for one in made}
    for _ in range(WINDOWS):
        for one in made:
            one.search(queries[:1])
            done, started = 0, time.perf_counter()
            while (passed := time.perf_counter() - started) < SECONDS:
                at = done % len(queries)
                one.search(queries[at : at + 1])
                done += 1
            counted[one.name].append(done / passed)
    return {name: float(np.median(windows)) for name, windows in counted.items()}


def compare(rows: np.ndarray, asked: dict[str, np.ndarray]) -> bool:
    made = build(rows)
    flat = made[0]
    speed = rates(made, np.concatenate(list(asked.values())))
    table, met = [], True
    for one in made:
        recalls = [_recall(one.search(queries), flat.search(queries)) for queries in asked.values()]
        ratio = speed[one.name] / speed[flat.name]
        if one.name.startswith("quantized"):
            met = min(recalls) >= RECALL and ratio >= RATIO
        cells = (*(f"{recall:.4f}" for recall in recalls), f"{speed[one.name]:,.0f}", f"{ratio:.1f}x")
        table.append((one.name, *cells, f"{one.seconds:.2f}", f"{one.bytes / 2**20:.0f}"))
    show(("index", *(f"recall@{TOP}, {name}" for name in asked), "queries/s", "FlatIP", "build s", "MB"), table)
    print(f"goal for quantized: recall >= {RECALL}, >= {RATIO:.0f}x FlatIP: {'met' if met else 'MISSED'}")
    return met


def _recall(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean([len(set(a) & set(b)) / TOP for a, b in zip(found, wanted, strict=True)]))


def switch(rows: np.ndarray, queries: np.ndarray) -> None:
    """What EXACT_UP_TO rests on."""
    table = []
    for count in (3_000, 10_000, EXACT_UP_TO, 50_000):
        pair = Exact(rows.shape[1]), Quantized(rows.shape[1])
        for index in pair:
            index.add(np.arange(count), rows[:count])
        made = [Candidate(one.kind, lambda q, one=one: one.search(q, TOP)[1], 0, 0) for one in pair]  # type: ignore[misc]
        speed = rates(made, queries)
        table.append((f"{count:,}", *(f"{1000 / speed[one.kind]:.2f}" for one in pair)))
    show(("rows", "exact ms", "quantized ms"), table)
    print(f"up to {EXACT_UP_TO:,} rows search is exact")


# -- one's own pictures -------------------------------------------------------------------------

CHILD = """
import sys
from pathlib import Path
import numpy as np
from pipelines.core.streaming import Job
from pipelines.gallery import Embedder
from pipelines.retrievers.collections import Collections

root, given, log = map(Path, sys.argv[1:])

def read(pictures):
    with log.open("a") as file:
        file.writelines(f"{hash(picture.tobytes())}\\n" for picture in pictures)
    rows = np.stack([np.asarray(picture.resize((8, 8)), np.float32).ravel() - 127.5 for picture in pictures])
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)

report = Collections(root, host="local").create("local", "host:own").add([given], Embedder("m@1", read, read), Job())
print(report.added, report.known, len(report.broken))
"""


def resume() -> bool:
    """A folder of pictures is read, killed in the middle, and read again: what was done is not done twice."""
    from pipelines.gallery import Gallery

    with tempfile.TemporaryDirectory() as made:
        root, given, log = (Path(made) / name for name in ("collections", "given", "log"))
        given.mkdir()
        shipped = Gallery.shipped()
        for index in range(PICTURES):
            (given / f"{index:04}.webp").write_bytes(shipped.data(index))
        command = [sys.executable, "-c", CHILD, str(root), str(given), str(log)]
        environment = os.environ | {"PYTHONHASHSEED": "0"}
        started = time.perf_counter()
        child = subprocess.Popen(command, env=environment)
        while child.poll() is None and _lines(log) < KILLED_AT * PICTURES:
            time.sleep(0.005)
        child.kill()
        child.wait()
        before = _lines(log)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - started
        added, known, broken = map(int, done.stdout.split())
        total, distinct = _lines(log), len(set(log.read_text().split()))
    twice = total - distinct
    print(f"{PICTURES:,} pictures, killed after {before} were embedded, run again: {known} known, {added} added,")
    print(f"  {broken} broken, {twice} embedded twice (at most a batch in hand); {PICTURES / seconds:.0f} pictures/s")
    return added + known == PICTURES and 0 <= before - known <= BATCH and twice == before - known


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--vectors", type=Path, default=vectors_file(FOLDER), help="safetensors as training.gallery writes"
    )
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--skip-resume", action="store_true", help="leave out reading one's own pictures")
    asked = parser.parse_args()
    if not asked.vectors.is_file():
        parser.error(f"{asked.vectors} is missing: python -m training.gallery --embed writes it")
    faiss.omp_set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))  # as in the app: a core is left to the page
    rows, queries = prepare(asked.vectors, asked.count)
    met = compare(rows, queries)
    switch(rows, queries["pictures"])
    return 0 if met & (asked.skip_resume or resume()) else 1


if __name__ == "__main__":
    sys.exit(main())
