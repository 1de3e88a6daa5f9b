"""A page of this package in a real browser, with all that it asks for and complains of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")


@dataclass
class Opened:
    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def overflow(self, width: int) -> int:
        """Return by how many pixels the page is wider than a window."""
        self.page.set_viewport_size({"width": width, "height": 844})
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def assert_offline_and_content(self) -> None:
        assert self.requests
        assert all(url.startswith(("file:", "data:")) for url in self.requests)
        assert self.complaints == []


def skip_without_browser() -> None:
    pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip("no /usr/bin/chromium (Debian's package chromium)")


@contextmanager
def opened(file: Path) -> Iterator[Opened]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        found = Opened(page)
        page.on("request", lambda request: found.requests.append(request.url))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.on("console", lambda said: said.type == "error" and found.complaints.append(said.text))
        page.goto(file.as_uri())
        yield found
        browser.close()
