"""The page of `affectnet demo` in Chromium: its files, a server, and a browser whose camera is a film."""

import csv
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Playwright, Request

from affectnet.predict.defaults import SHIPPED
from affectnet.web import server, site
from affectnet.web.site import Files, Reading
from tools import page as build

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = build.SOURCES / "node_modules" / "axe-core" / "axe.min.js"

needs_page = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; `apt-get install chromium` brings it"),
    pytest.mark.skipif(not AXE.is_file(), reason="the page's packages are not installed; `make page` installs them by npm"),
]

SWITCHES = ("--no-sandbox", "--disable-dev-shm-usage", "--use-fake-device-for-media-stream")


@cache
def page_files(folder: Path, model: Path = SHIPPED) -> Files:
    """The page for this model, built from the sources. folder: where it is built, once for all models."""
    if not folder.exists():
        build.build(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site, "BUILT", folder)
        return site.site_files(model, Reading())


@contextmanager
def served(files: Files) -> Iterator[str]:
    """The page's address."""
    with server.page_server(files, 0) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}/"
        finally:
            running.shutdown()
            thread.join()


def browser_context(playwright: Playwright, camera: Path | None, *switches: str) -> BrowserContext:
    """camera: a film in Motion JPEG that the camera shows."""
    film = [] if camera is None else [f"--use-file-for-fake-video-capture={camera}"]
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*SWITCHES, *switches, *film])
    return browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)


@dataclass
class Tab:
    """The opened page, what its console logged as errors, and the addresses that it requested."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def status(self, text: str) -> None:
        """Waits for the line below the picture."""
        self.page.locator("#status", has_text=text).wait_for(timeout=20_000)

    def open(self, path: Path) -> None:
        self.page.set_input_files("#file", path)

    def problem(self) -> str:
        """The line of an error, when it appears."""
        alert = self.page.get_by_role("alert")
        alert.wait_for(timeout=20_000)
        return alert.inner_text()

    def saved(self, button: str) -> Path:
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name=button).click()
        return Path(os.fspath(download.value.path()))

    def rows(self) -> list[dict[str, str]]:
        """The rows of `Save CSV`."""
        with self.saved("Save CSV").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def predicted(self, path: Path) -> list[dict[str, str]]:
        """The rows of a photograph."""
        self.open(path)
        self.status(f"{path.name}: ")
        self.page.locator("#csv:enabled").wait_for()
        return self.rows()


def opened(context: BrowserContext, address: str) -> Tab:
    """The page, ready."""
    tab = Tab(context.new_page())

    def record_error(message: ConsoleMessage) -> None:
        if message.type == "error":
            tab.errors.append(message.text)

    def record_request(request: Request) -> None:
        tab.requested.append(request.url)

    tab.page.on("console", record_error)
    tab.page.on("pageerror", lambda error: tab.errors.append(str(error)))
    tab.page.on("request", record_request)
    tab.page.goto(address)
    tab.status("Ready.")
    return tab
