"""The pictures of the page in docs/: `python -m tools.page_pictures [MODEL]`, after `make page`.

docs/demo.png: the drawn example on a desktop, light; docs/page_camera.png: two drawn people in front of the camera, dark;
docs/page_phone.png: the example on phones, light and dark.
"""

import io
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from affectnet.errors import UserError, exit_code
from affectnet.predict.defaults import model_file
from affectnet.web.server import HOST, page_server
from affectnet.web.site import Reading, site_files
from benchmarks.page import write_camera

DOCS = Path(__file__).parents[1] / "docs"
DESK, PHONE = (1280, 800), (390, 844)
COLOURS = 128
CAMERA_S = 4.0
"""Seconds of the camera before the picture is taken."""

Scheme = Literal["light", "dark"]


def opened(browser: Browser, address: str, size: tuple[int, int], scheme: Scheme) -> Page:
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page.goto(address)
    page.get_by_text("Ready.").wait_for()
    return page


def example(browser: Browser, address: str, size: tuple[int, int], scheme: Scheme) -> Image.Image:
    page = opened(browser, address, size, scheme)
    page.get_by_role("button", name="example").click()
    page.locator("#status", has_text="3 faces").wait_for()
    page.mouse.move(0, 0)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def camera(browser: Browser, address: str) -> Image.Image:
    page = opened(browser, address, DESK, "dark")
    page.get_by_role("button", name="Start the camera").click()
    page.locator("#speed", has_text="frames a second").wait_for()
    page.wait_for_timeout(1000 * CAMERA_S)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def save(picture: Image.Image, name: str) -> None:
    path = DOCS / name
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


def main() -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise UserError("chromium: missing; apt-get install chromium")
    files = site_files(model_file(sys.argv[1] if len(sys.argv) > 1 else None), Reading())
    with tempfile.TemporaryDirectory() as folder, page_server(files, 0) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        film = write_camera(Path(folder) / "camera.mjpeg")
        switches = ("--no-sandbox", "--disable-dev-shm-usage", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
        browser = playwright.chromium.launch(executable_path=chromium, args=[*switches, f"--use-file-for-fake-video-capture={film}"])
        address = f"http://{HOST}:{server.server_port}/"
        save(example(browser, address, DESK, "light"), "demo.png")
        save(camera(browser, address), "page_camera.png")
        phones = Image.new("RGB", (2 * PHONE[0] + 16, PHONE[1]), "#888888")
        for at, scheme in enumerate(("light", "dark")):
            phones.paste(example(browser, address, PHONE, scheme), (at * (PHONE[0] + 16), 0))  # type: ignore[arg-type]
        save(phones, "page_phone.png")
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
