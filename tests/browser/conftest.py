"""A real Chromium before the running app. Screenshots go to artifacts/, to be looked at."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from pipelines.core.settings import Settings
from tests.demos.conftest import Running, server  # noqa: F401 - a fixture

SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
ARTIFACTS = Path(__file__).parents[2] / "artifacts" / "screenshots"


@pytest.fixture(scope="session")
def settings() -> Settings:
    """Offline, on the processor; the starter model is unpacked once per machine, into the ordinary cache."""
    return replace(Settings.read({}), cache=Settings.read().cache, offline=True, device="cpu", budget_mb=3_000)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    system = shutil.which("chromium") or shutil.which("chromium-browser")
    found = {"executable_path": system} if system else {}
    flags = ["--no-sandbox", "--disable-dev-shm-usage", "--use-fake-ui-for-media-stream"]
    return {**browser_type_launch_args, **found, "args": [*flags, "--use-fake-device-for-media-stream"]}


@dataclass
class Opened:
    """A page and what went wrong on it."""

    page: Page
    foreign: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def tab(self, name: str) -> None:
        """Open a tab and wait until it is drawn."""
        self.page.locator(f'button[role="tab"][aria-controls="tab-{name}"]').first.click()
        self.page.locator(f"#tab-{name} .intro").first.wait_for(state="visible")

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def until(self, selector: str, pattern: str, seconds: float = 60) -> str:
        """Wait until an element's text matches; the text."""
        self.page.wait_for_function(
            "([s, p]) => new RegExp(p, 's').test(document.querySelector(s)?.innerText ?? '')",
            arg=[selector, pattern],
            timeout=seconds * 1000,
        )
        return self.text(selector)


Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Browser, server: Running) -> Open:  # noqa: F811
    """`with open_page(size=, locale=, scheme=, path=) as opened`: a visitor of its own."""

    @contextmanager
    def opening(
        size: str = "desktop", locale: str = "en-US", scheme: str = "light", path: str = "/"
    ) -> Iterator[Opened]:
        phone = size == "phone"
        context = browser.new_context(
            viewport=SIZES[size], locale=locale, color_scheme=scheme, is_mobile=phone, has_touch=phone
        )
        page = context.new_page()
        opened = Opened(page)
        page.on("request", lambda r: None if _ours(r.url, server.url) else opened.foreign.append(r.url))
        page.on("pageerror", lambda error: opened.errors.append(str(error)))
        page.goto(server.url + path)
        page.locator("#footer").wait_for(state="visible")
        page.locator("#models-bar, #captioning-notice, #reasoning-box").first.wait_for(state="attached")
        try:
            yield opened
        finally:
            context.close()

    return opening


def _ours(url: str, server_url: str) -> bool:
    return url.startswith(server_url) or re.match(r"(data|blob|about):", url) is not None
