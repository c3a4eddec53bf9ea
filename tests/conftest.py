"""What all tests share. The environment is set before anything imports gradio or huggingface_hub."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.update(
    GRADIO_ANALYTICS_ENABLED="False",
    GRADIO_ANALYTICS_CACHE_FREQUENCY="1000000",
    GRADIO_RUN_HISTORY="False",
    GRADIO_SSR_MODE="False",
    HF_HUB_DISABLE_TELEMETRY="1",
    OMP_NUM_THREADS="1",  # tiny models: threads only get into each other's way
    no_proxy="127.0.0.1,localhost",
    NO_PROXY="127.0.0.1,localhost",
)

from tests.hub import LoopbackHub  # noqa: E402


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """A model hub of this test's own on 127.0.0.1."""
    with LoopbackHub() as server:
        yield server


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """The starter language model as a folder; its GGUF is converted once per machine, into the ordinary cache."""
    from pipelines.core.catalog import Catalog
    from pipelines.core.settings import Settings
    from pipelines.core.streaming import Stop
    from pipelines.loaders.sources import Sources

    settings = Settings.read()
    card = Catalog.read(settings.root / "pipelines" / "catalog").model("smollm2-135m")
    return Sources(settings).fetch(card, stop=Stop(), progress=lambda _: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The browser's tests come last: Playwright leaves an event loop running in the main thread."""
    items.sort(key=lambda item: item.nodeid.startswith("tests/browser"))
