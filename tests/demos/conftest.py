"""One running app for every test of a door: real starter models, a port of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from pipelines.core.catalog import Catalog
from pipelines.core.settings import Settings
from pipelines.house import House


@dataclass(frozen=True)
class Running:
    """A server and the house behind it."""

    url: str
    house: House
    folder: Path


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Offline, on the processor, with caches of the test run's own."""
    cache = tmp_path_factory.mktemp("cache")
    return replace(Settings.read({}), cache=cache, offline=True, device="cpu", budget_mb=3_000)


@pytest.fixture(scope="session")
def server(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The whole app on a free port."""
    folder = tmp_path_factory.mktemp("gradio")
    with running(settings, folder) as found:
        yield found


class running:
    """Serve `settings` (and another catalogue) while the block runs."""

    def __init__(self, settings: Settings, folder: Path, catalog: Catalog | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.settings = replace(settings, port=probe.getsockname()[1])
        self.folder = folder
        self.catalog = catalog

    def __enter__(self) -> Running:
        from demos.server import create_app, make_server, prepare_environment

        prepare_environment(self.folder)
        house = House(self.settings, catalog=self.catalog)
        self.server = make_server(create_app(house, self.folder), self.settings, house)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        deadline = time.monotonic() + 60
        while not self.server.started:
            assert self.thread.is_alive() and time.monotonic() < deadline, "the server did not start"
            time.sleep(0.02)
        url = f"http://127.0.0.1:{self.settings.port}"
        assert httpx.get(f"{url}/healthz").status_code == 200
        return Running(url, house, self.folder)

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(20)
