"""A browser, and the built site as readers have it: as files, and on a server below a path."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Response,
    sync_playwright,
)

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "book/_build/html"
SCREEN: dict[str, Any] = {  # colours that fade have no contrast to measure
    "viewport": {"width": 1280, "height": 900},
    "color_scheme": "light",
    "reduced_motion": "reduce",
}
SHIFTS = """window.shifted = 0; new PerformanceObserver(list => {
  for (const e of list.getEntries()) if (!e.hadRecentInput) window.shifted += e.value;
}).observe({type: "layout-shift", buffered: true});"""


def pages() -> list[str]:
    """Every page of the site, by its path."""
    own = [p for folder in ("book", "notebooks") for p in (SITE / folder).glob("*.html")]
    proofs = [SITE / f"_static/proofs/Proofs.{name}.html" for name in ("Statements", "Dilation")]
    return sorted(str(p.relative_to(SITE)) for p in [*own, *proofs, *SITE.glob("*.html")])


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert program, "no Chromium on PATH: install one, or name it by CHROMIUM=path"
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@dataclass
class Reader:
    """A page in the browser, where the site lies, and what happened while it was used."""

    page: Page
    home: str
    trouble: list[str] = field(default_factory=list)
    weight: int = 0

    def open(self, address: str) -> None:
        """Go to an address of the site, and wait until all of it is there."""
        # both: on a busy machine the network may rest for long before the scripts are asked for
        self.page.goto(self.home + address, wait_until="load")
        self.page.wait_for_function("document.title !== 'Moved'")  # an old address leads on
        self.page.wait_for_load_state("load")
        self.page.wait_for_load_state("networkidle")
        self.page.evaluate("document.fonts.ready")

    def watch(self) -> None:
        """Note errors, and requests that leave the site."""
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda e: self.trouble.append(str(e)))
        self.page.on("requestfailed", lambda r: self.trouble.append(f"failed: {r.url}"))
        self.page.on("request", lambda r: self._leaving(r.url))
        self.page.on("response", self._weigh)

    def _heard(self, message: ConsoleMessage) -> None:
        # a browser asks every server for /favicon.ico where a page names no icon: coqdoc's do not
        if message.type == "error" and not message.location["url"].endswith("/favicon.ico"):
            self.trouble.append(message.text)

    def _leaving(self, url: str) -> None:
        if not url.startswith((self.home, "data:")):
            self.trouble.append(f"asked {url}")

    def _weigh(self, response: Response) -> None:
        if response.url.startswith("http"):
            self.weight += len(response.body())
            if response.status >= 400:
                self.trouble.append(f"{response.status}: {response.url}")


def _reader(context: BrowserContext, home: str) -> Reader:
    context.add_init_script(SHIFTS)
    made = Reader(context.new_page(), home)
    made.watch()
    return made


@pytest.fixture
def reader(browser: Browser) -> Iterator[Reader]:
    """Somebody who has opened the site from its files."""
    context = browser.new_context(**SCREEN)
    yield _reader(context, SITE.as_uri() + "/")
    context.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def translate_path(self, path: str) -> str:
        return super().translate_path(path.removeprefix("/some/where"))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """The site on a server, below a path."""
    handler = functools.partial(_Quiet, directory=str(SITE))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/some/where/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def visitor(browser: Browser, address: str) -> Iterator[Reader]:
    """Somebody who visits the site on a server."""
    context = browser.new_context(**SCREEN)
    yield _reader(context, address)
    context.close()
