"""The page of `affectnet predict --timeline`."""

import re
import shutil
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from films import frame, person, write_film
from playwright.sync_api import sync_playwright
from portraits import MODEL, write_model

from affectnet.__main__ import main
from affectnet.errors import UserError
from affectnet.expressions import EXPRESSIONS
from affectnet.predict.films import charts
from affectnet.predict.films.curves import FilmCurves, portrait
from affectnet.predict.films.timeline import MOST_FACES, Timeline, check_page
from affectnet.predict.paths import FilmEnd, Shot
from affectnet.predict.predictor import Face
from affectnet.predict.writers import Answer

PICTURE = np.full((16, 16, 3), 120, np.uint8)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def answer(seconds: float, *tracks: int, expression: str = "Happy", valence: float | None = 0.5) -> Answer:
    """A frame with these faces, each with 0.65 for the expression and 0.05 for each other."""
    shares = {name: 0.65 if name == expression else 0.05 for name in EXPRESSIONS}
    arousal = None if valence is None else -0.25
    faces = [Face((0.0, 0.0, 20.0 + track, 20.0), expression, shares, valence, arousal, "libfacedetection") for track in tracks]
    return Answer(Shot("film.mp4", "film.mp4", seconds), faces, tracks=tracks)


def page(path: Path, *films: Sequence[Answer], affect: bool = True, smooth: float | None = None, name: str = "film.mp4") -> str:
    timeline = Timeline(path, EXPRESSIONS, affect, smooth)
    for film in films:
        for one in film:
            timeline.add(one, [PICTURE] * len(one.faces))
        timeline.end(FilmEnd(name, name))
    timeline.write()
    return path.read_text(encoding="utf-8")


def paths(text: str, name: str) -> list[list[tuple[float, float]]]:
    """The points of each curve of this label, or of valence or arousal."""
    name = charts.css_class(EXPRESSIONS, name) if name in EXPRESSIONS else name
    drawn = re.findall(rf'<path class="{name}" d="([^"]*)">', text)
    return [[(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)] for path in drawn]


def test_the_page_of_a_film_shows_its_faces(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command to the page: pictures, areas, lines and times, in one file without a script or an address."""
    write_model()
    write_film(workspace / "film.mp4", [frame((person(4), 20 + at, 30), (person(9), 430 - at, 40)) for at in range(40)])
    assert main(["predict", "film.mp4", "--timeline", "page.html", "--smooth", "0.5", "--model", str(MODEL)]) == 0
    assert capsys.readouterr().out.count("\n") == 40
    text = Path("page.html").read_text(encoding="utf-8")
    assert re.findall(r"<h3>(Face \d)</h3>", text) == ["Face 1", "Face 2"] and text.count("data:image/jpeg;base64,") == 2
    assert all(len(paths(text, name)) == 2 for name in (*EXPRESSIONS, "valence", "arousal"))
    assert "0:04 long, 20 frames analysed, predictions smoothed over 0.5 s." in text and ">0:02</span>" in text
    assert not re.search(r"<script|<link|@import|https?:|url\(", text) and "default-src 'none'" in text


def test_a_film_is_as_long_as_it_is_however_far_apart_the_analysed_frames_are(workspace: Path) -> None:
    write_model()
    write_film(workspace / "film.mp4", [frame((person(4), 200, 30))] * 121)
    for every, count in (("60", "1 frame"), ("8", "2 frames"), ("1", "13 frames")):
        assert main(["predict", "film.mp4", "--timeline", "page.html", "--every", every, "--model", str(MODEL)]) == 0
        text = Path("page.html").read_text(encoding="utf-8")
        assert f"0:12.1 long, {count} analysed." in text and "0:00 – 0:12.1, seen for 12.1 s." in text


def test_areas_are_stacked_to_one_and_lines_show_their_values(tmp_path: Path) -> None:
    text = page(tmp_path / "page.html", [answer(at / 5, 1) for at in range(10)])
    tops = {name: min(y for _, y in paths(text, name)[0]) for name in EXPRESSIONS}
    order = charts.stacked(EXPRESSIONS)
    heights = -np.diff([charts.HEIGHT, *(tops[name] for name in order)]) / charts.HEIGHT
    assert dict(zip(order, heights.round(2).tolist(), strict=True)) == {name: 0.65 if name == "Happy" else 0.05 for name in order}
    assert order[-1] == "Neutral" and tops["Neutral"] == 0
    assert {y for _, y in paths(text, "valence")[0]} == {25.0} and {y for _, y in paths(text, "arousal")[0]} == {62.5}
    assert (min(x for x, _ in paths(text, "Sad")[0]), max(x for x, _ in paths(text, "Sad")[0])) == (0, charts.COLUMNS)


def test_a_gap_is_a_gap(tmp_path: Path) -> None:
    """Each frame stands for the time half way to its neighbours, and nothing is drawn in between."""
    film = [answer(at, *([1] if at < 20 or at >= 30 else [])) for at in range(40)]
    (curve,) = re.findall(r'<path class="valence" d="(M[^"]*)">', page(tmp_path / "page.html", film))
    pieces = [[float(point.split()[0]) for point in piece.split("L")] for piece in curve.split("M")[1:]]
    unit = charts.COLUMNS / 40
    ends = [end for piece in pieces for end in (piece[0], piece[-1])]
    assert ends == pytest.approx([0, 19.5 * unit, 29.5 * unit, 40 * unit], abs=0.06)


def test_a_film_of_two_hours_has_as_few_points_as_the_page_has_columns(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    film = [answer(at, *np.flatnonzero(generator.random(2) < 0.9) + 1, expression=EXPRESSIONS[at // 600 % 8]) for at in range(7200)]
    text = page(tmp_path / "page.html", film)
    assert all(len(curve) <= 6 * charts.COLUMNS for name in EXPRESSIONS for curve in paths(text, name))
    assert all(len(curve) <= 3 * charts.COLUMNS for curve in paths(text, "valence"))
    assert len(text) < 600_000 and "2:00:00 long, 7,200 frames analysed." in text and ">1:30:00</span>" in text


def test_columns_average_their_frames() -> None:
    film = FilmCurves()
    for at in range(1000):
        film.add(answer(at / 100, 1, valence=1.0 if at % 2 else -1.0), [PICTURE])
    ((seconds, values),) = film.pieces(film.curves[1], film.across, 50)
    assert len(seconds) == 52 and np.abs(values[:, -2]).max() < 0.1 and np.diff(seconds)[1:-1] == pytest.approx(0.2, abs=0.011)


def test_a_face_that_is_seen_briefly_has_an_axis_of_its_own_and_those_in_one_frame_are_counted(tmp_path: Path) -> None:
    film = [answer(at / 5, 1, *([2] if 300 <= at < 320 else []), *([3] if at == 500 else [])) for at in range(1500)]
    text = page(tmp_path / "page.html", film)
    assert re.findall(r"<h3>Face (\d)</h3>", text) == ["1", "2"] and text.count("The axis shows only this part of the film.") == 1
    assert ">1:01</span>" in text and "Faces that were seen more briefly, for at most 0.2 s, are not shown: 1." in text
    assert "0:59.9 – 1:03.9, seen for 4.0 s." in text


def test_of_very_many_faces_those_seen_for_longest_are_shown(tmp_path: Path) -> None:
    film = [answer(at / 5, at // 10 + 1) for at in range(40 * 10 + 5)]
    text = page(tmp_path / "page.html", film)
    assert text.count("<article") == MOST_FACES and "are not shown: 17." in text


def test_each_film_has_its_section_and_its_name_is_text(tmp_path: Path) -> None:
    film = [answer(at / 5, 1) for at in range(5)]
    text = page(tmp_path / "page.html", film, film, [answer(0.0)], name="a <b>&\n.mp4")
    assert text.count("<h2>a &lt;b&gt;&amp;\\n.mp4</h2>") == 3 and text.count("<article") == 2 and "No face was detected." in text
    assert len(re.findall(r'id="([^"]+)"', text)) == len(set(re.findall(r'id="([^"]+)"', text))) == 2


def test_films_of_one_name_have_their_folders_in_the_heading(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path / "page.html", EXPRESSIONS, True, None)
    for path in ("film.mp4", "/x/monday/a/film.mp4", "/x/tuesday/a/film.mp4", "other.mp4"):
        timeline.add(answer(0.0), [])
        timeline.end(FilmEnd(path, Path(path).name))
    timeline.write()
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.findall("<h2>(.*?)</h2>", text) == ["film.mp4", "monday/a/film.mp4", "tuesday/a/film.mp4", "other.mp4"]


def test_a_model_of_expressions_only_has_no_lines_and_one_frame_is_a_page(tmp_path: Path) -> None:
    text = page(tmp_path / "page.html", [answer(0.0, 1, valence=None)], affect=False)
    assert "arousal" not in text.partition("</style>")[2] and "seen for 1.0 s" in text and "Most probable: Happy 100 % of the time." in text


def test_without_a_film_there_is_no_page_and_no_file_of_another_kind_is_overwritten(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_model()
    (workspace / "text.mp4").write_text("no film")
    assert main(["predict", "text.mp4", "--timeline", "page.html", "--model", str(MODEL)]) == 2
    err = capsys.readouterr().err
    assert err.endswith("error: page.html: no page, for no video was read; --timeline shows videos\n") and not Path("page.html").exists()
    (workspace / "mine.html").write_text("<!doctype html>mine")
    assert main(["predict", "text.mp4", "--timeline", "mine.html", "--model", str(MODEL)]) == 2
    assert capsys.readouterr().err == "error: mine.html: exists and is not a page of timelines; give another name\n"
    with pytest.raises(UserError, match="a folder"):
        check_page(workspace)
    page(workspace / "page.html", [answer(0.0, 1)])
    check_page(workspace / "page.html")


def test_a_portrait_is_square_and_black_outside_of_the_frame() -> None:
    picture = portrait(np.full((100, 100, 3), 200, np.uint8), (60.0, 40.0, 100.0, 60.0))
    assert picture.shape == (128, 128, 3) and picture[:, 0].min() > 190 and picture[:, -1].max() < 10


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Path]:
    film = [answer(at / 5, *range(1, 2 + at // 40), expression=EXPRESSIONS[at // 20 % 8]) for at in range(180)]
    page(tmp_path / "page.html", film, name="holiday-" * 12 + ".mp4")
    yield tmp_path / "page.html"


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here; `apt-get install chromium` brings it")
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_phone_and_desk_in_both_schemes(width: int, scheme: str, shown: Path) -> None:
    """Nothing is wider than the page, no label covers another, and the curves fill their frames."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)  # type: ignore[arg-type]
        opened.goto(shown.as_uri())
        assert opened.evaluate("document.documentElement.scrollWidth") == width
        for axis in opened.query_selector_all(".axis"):
            boxes = [box for label in axis.query_selector_all("span") if (box := label.bounding_box()) is not None]
            assert len(boxes) >= 3 and all(one["x"] + one["width"] + 4 < other["x"] for one, other in pairwise(boxes))
        heights = [box["height"] for plot in opened.query_selector_all(".areas svg") if (box := plot.bounding_box()) is not None]
        assert len(heights) == 5 and min(heights) > 90
        browser.close()
