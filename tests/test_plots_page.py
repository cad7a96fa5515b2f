"""The page of `dvc plots` needs no network: Vega is inside, pinned, and draws in a browser."""

import hashlib
import re
import shutil
from configparser import ConfigParser
from pathlib import Path

import pytest
from chain import ROOT
from dvc_render.html import HTML
from dvc_render.vega import VegaRenderer
from playwright.sync_api import sync_playwright

from affectnet.errors import UserError
from tools.plots_page import PAGE, SCRIPTS, page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def test_dvc_uses_the_page_and_its_scripts_are_the_pinned_ones(tmp_path: Path) -> None:
    config = ConfigParser()
    config.read(ROOT / ".dvc" / "config")
    assert (ROOT / ".dvc" / config["plots"]["html_template"]) == ROOT / PAGE
    content = (ROOT / PAGE).read_text(encoding="utf-8")
    digests = [hashlib.sha256(script.encode()).hexdigest() for script in re.findall(r"<script>(.*?)</script>", content, re.DOTALL)]
    assert digests == [digest for _, digest in SCRIPTS.values()]
    assert content.count("{plot_divs}") == 1 and "{scripts}" not in content and not re.search(r"<(script|link)[^>]+(src|href)=", content)
    with pytest.raises(UserError, match=r"vega-5.33.0.tgz: not named; npm pack vega@5.33.0"):
        page({})


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; `apt-get install chromium` brings it")
def test_a_plot_is_drawn_without_a_network(tmp_path: Path) -> None:
    points = [{"rev": "main", "filename": "loss.csv", "field": "loss", "epoch": epoch, "loss": 1 / epoch} for epoch in (1, 2, 3)]
    plot = VegaRenderer(points, "loss.csv", x="epoch", y="loss", template="linear")
    html = HTML((ROOT / PAGE).read_text(encoding="utf-8")).with_scripts(plot.SCRIPTS).with_element(plot.generate_html())
    (tmp_path / "index.html").write_text(html.embed(), encoding="utf-8")
    with sync_playwright() as browsers:
        browser = browsers.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        tab = browser.new_page()
        asked: list[str] = []
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto((tmp_path / "index.html").as_uri())
        tab.wait_for_selector("canvas.marks, svg.marks")
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
