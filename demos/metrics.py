"""Figures for Prometheus: jobs by task and outcome, seconds, memory, evictions. Looks; never makes anything load."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client import Counter as Count
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipelines.house import House

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """What /metrics shows of one House; `text()` renders it."""

    def __init__(self, house: House) -> None:
        self._registry = CollectorRegistry()
        self._jobs = Count(
            "synesthesia_jobs", "Jobs ended, by task and outcome", ["task", "outcome"], registry=self._registry
        )
        self._seconds = Histogram(
            "synesthesia_job_seconds", "Seconds of computing", ["task"], buckets=SECONDS, registry=self._registry
        )
        self._registry.register(_Memory(house))
        house.observers.append(self._observe)

    def text(self) -> bytes:
        """The exposition format, CONTENT_TYPE."""
        return generate_latest(self._registry)

    def _observe(self, task: str, outcome: str, seconds: float) -> None:
        self._jobs.labels(task, outcome).inc()
        self._seconds.labels(task).observe(seconds)


class _Memory:
    """Reads the registry's state when asked."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._lock = threading.Lock()
        self._seen = 0.0  # time of the newest eviction counted
        self._evicted: Counter[tuple[str, str]] = Counter()

    def collect(self) -> Iterator[Metric]:
        jobs = self._house.admission.counts()
        yield GaugeMetricFamily("synesthesia_jobs_now", "Jobs queued or running", sum(jobs.values()))
        registry = self._house.registry_if_made
        if registry is None:
            return
        yield GaugeMetricFamily("synesthesia_memory_bytes", "Bytes held or reserved by models", registry.used)
        yield GaugeMetricFamily("synesthesia_budget_bytes", "Bytes models may hold", registry.budget)
        yield GaugeMetricFamily("synesthesia_waiting", "Jobs waiting for room or a model", registry.waiting)
        resident = GaugeMetricFamily("synesthesia_resident_bytes", "Bytes by entry", labels=["id", "kind"])
        for view in registry.status():
            resident.add_metric([view.id, view.kind], view.size)
        yield resident
        evictions = CounterMetricFamily("synesthesia_evictions", "What left memory", labels=["kind", "reason"])
        for labels, count in self._count_evictions().items():
            evictions.add_metric(list(labels), count)
        yield evictions

    def _count_evictions(self) -> Counter[tuple[str, str]]:
        """The log forgets, a counter must not: add what is new since the last look."""
        with self._lock:
            registry = self._house.registry_if_made
            log = registry.evictions() if registry else ()
            for eviction in log:
                if eviction.time > self._seen:
                    self._evicted[eviction.kind, eviction.reason] += 1
            self._seen = max([self._seen, *(eviction.time for eviction in log)])
            return Counter(self._evicted)
