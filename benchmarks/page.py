"""Frames a second of the page in headless Chromium, by part: `python -m benchmarks.page [--seconds 20] [--video FILE.mjpeg]`.

The camera of the browser is a film: one drawn person who moves, then two, 640 × 480 px at 30 frames a second; or any film in Motion JPEG or
y4m by --video. Each time the page runs with threads, as `affectnet demo` serves it, and without them, as on a host that sends no headers.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import simplejpeg
from playwright.sync_api import sync_playwright

from affectnet.errors import UserError, exit_code
from affectnet.images.decode import Pixels
from affectnet.predict.defaults import SHIPPED
from affectnet.running.parallel import cores
from affectnet.synthetic.actions import draw_actions
from affectnet.synthetic.photograph import draw_photograph, draw_scene
from affectnet.web import server
from affectnet.web.site import Reading, site_files
from benchmarks.__main__ import commit, processor

WIDTH, HEIGHT, FRAMES = 640, 480, 90
PEOPLE = ((4, "Happy", 260), (25, "Surprise", 220))
"""Seed, expression and side in px of each."""

WARM_S = 3.0
"""Seconds before the measurement: the networks' first runs take longer."""

PARTS = {
    "capture": "a frame becomes a bitmap",
    "read": "its pixels are read",
    "detect": "faces are detected and followed",
    "network": "faces are cut, and the network runs",
    "draw": "frames, bars and numbers",
    "frame": "from the camera to the answer, two frames on their way",
}

OBSERVE = """() => { window.parts = {};
  new PerformanceObserver(list => { for (const {name, duration} of list.getEntries()) (window.parts[name] ??= []).push(duration); })
    .observe({type: 'measure'}); }"""


def film(count: int) -> Iterator[Pixels]:
    """(480, 640, 3) RGB frames of one or two drawn people who sway."""
    people = []
    for seed, expression, side in PEOPLE[:count]:
        generator = np.random.default_rng(seed)
        scene = replace(draw_scene(generator, side, side), occlusion="", yaw=0.0, pitch=0.0, roll=0.0, blur=0.0)
        people.append(np.asarray(draw_photograph(draw_actions(expression, generator, 1.0), generator, scene).image))
    for number in range(FRAMES):
        frame = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        for at, person in enumerate(people):
            left = 30 + 320 * at + round(20 * np.sin(2 * np.pi * number / FRAMES + at))
            top = 80 + round(15 * np.cos(2 * np.pi * number / FRAMES))
            frame[top : top + len(person), left : left + len(person)] = person
        yield frame


def write_camera(path: Path, people: int = 2) -> Path:
    """The film as Motion JPEG, which Chromium repeats."""
    content = (simplejpeg.encode_jpeg(np.ascontiguousarray(frame), 90, colorspace="RGB") for frame in film(people))
    path.write_bytes(b"".join(content))
    return path


def measured(camera: Path, seconds: float, isolated: bool) -> tuple[float, dict[str, list[float]]]:
    """Frames a second, and the milliseconds of each part. isolated: whether the server's headers let the browser give threads."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise UserError("chromium: missing; apt-get install chromium")
    flags = [
        *("--no-sandbox", "--disable-dev-shm-usage", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
        f"--use-file-for-fake-video-capture={camera}",
    ]
    headers = dict(server.HEADERS)
    if not isolated:
        headers.pop("Cross-Origin-Opener-Policy")
    original, server.HEADERS = server.HEADERS, headers
    try:
        with server.page_server(site_files(SHIPPED, Reading()), 0) as served, sync_playwright() as playwright:
            threading.Thread(target=served.serve_forever, daemon=True).start()
            browser = playwright.chromium.launch(executable_path=chromium, args=flags)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"http://{server.HOST}:{served.server_port}/")
            page.get_by_text("Ready.").wait_for()
            page.get_by_role("button", name="Start the camera").click()
            page.get_by_text("frames a second").wait_for()
            page.wait_for_timeout(1000 * WARM_S)
            page.evaluate(OBSERVE)
            page.wait_for_timeout(1000 * seconds)
            parts = page.evaluate("window.parts")
            browser.close()
            served.shutdown()
    finally:
        server.HEADERS = original
    return len(parts["frame"]) / seconds, parts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement; default 20")
    parser.add_argument("--video", type=Path, metavar="FILE", help="a film in Motion JPEG or y4m as the camera")
    options = parser.parse_args()
    columns = {}
    with tempfile.TemporaryDirectory(prefix="page-") as folder:
        drawn = {f"{count} face{'s' * (count > 1)}": write_camera(Path(folder) / f"{count}.mjpeg", count) for count in (1, 2)}
        cameras = {options.video.name: options.video.absolute()} if options.video else drawn
        for name, camera in cameras.items():
            for isolated in (True, False):
                columns[f"{name}, {'isolated' if isolated else 'not isolated'}"] = measured(camera, options.seconds, isolated)
    machine = f"{commit()}, {cores()} cores, {processor()}, load {os.getloadavg()[0]:.1f}"
    print(f"{machine}\n\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    print(f"| frames a second | {' | '.join(f'{rate:.1f}' for rate, _ in columns.values())} |")
    for part, what in PARTS.items():
        print(f"| {what}, ms, median | {' | '.join(f'{statistics.median(parts[part]):.1f}' for _, parts in columns.values())} |")


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
