# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium for tests of pages; they are skipped where it or playwright is absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Opened:
    """A page in the browser, and what it did on its own: requests, messages on the console, errors."""

    page: Any
    requests: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Browser:
    """Opens files, each in a context of its own."""

    def __init__(self, chromium: Any) -> None:
        self._chromium = chromium

    def open(self, path: Path, *, width: int = 1280, height: int = 900, scheme: str = "light") -> Opened:
        """Open a file at a width in CSS pixels, with the light or dark color scheme."""
        context = self._chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        opened = Opened(context.new_page())
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.on("console", lambda message: opened.console.append(message.text))
        opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
        opened.page.goto(path.resolve().as_uri())
        return opened

    def close(self) -> None:
        """Close all pages."""
        for context in self._chromium.contexts:
            context.close()


def executable() -> str | None:
    """Path of the browser: environment variable CHROMIUM, else the first of ``NAMES`` that is installed."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Return the started browser of playwright."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = executable()
    if path is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Browser]:
    """Return a browser whose pages close after the test."""
    opened = Browser(chromium)
    yield opened
    opened.close()
