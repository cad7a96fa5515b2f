import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from affectnet.errors import UserError
from affectnet.reporting.plot_tables import read_confusion
from affectnet.reporting.svg import Line, circumplex_svg, confusion_svg, lines_svg, rounded_up

SVG = "{http://www.w3.org/2000/svg}"
TABLE = "actual,predicted\nHappy,Happy\nHappy,Sad\nSad,Sad\nSad,Sad\n"


def test_the_picture_shows_each_count_in_its_cell(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    counts, names = read_confusion(tmp_path / "table.csv")
    assert np.array_equal(counts, [[1, 1], [0, 2]]) and names == ["Happy", "Sad"]
    texts = [element.text or "" for element in ET.fromstring(confusion_svg(counts, names)).iter() if element.tag.endswith("text")]
    assert sorted(texts) == sorted(["predicted", "actual", "Happy", "Happy", "Sad", "Sad", "1", "1", "0", "2", "50 %", "50 %", "100 %"])


def cells(svg: str) -> list[tuple[float, float]]:
    """Centres of the filled cells, in valence and arousal of the left panel or beyond it."""
    filled = [e for e in ET.fromstring(svg).iter() if e.tag.endswith("rect") and e.attrib["fill"].startswith("rgb")]
    return [
        ((float(e.attrib["x"]) + 8 - 60) / 160 - 1, 1 - (float(e.attrib["y"]) + 8 - 40) / 160)
        for e in filled
    ]  # fmt: skip


def test_the_circumplex_has_valence_to_the_right_and_arousal_up() -> None:
    true = np.array([[0.95, 0.45], [np.nan, np.nan]])
    assert cells(circumplex_svg(true, np.empty((2, 0)))) == [pytest.approx((0.95, 0.45), abs=0.06)]
    both = cells(circumplex_svg(true, np.array([[-0.95, -0.45], [0.0, 0.0]])))
    assert len(both) == 2 and both[1] == pytest.approx((-0.95 + 380 / 160, -0.45), abs=0.06)
    assert cells(circumplex_svg(np.full((3, 2), np.nan), np.zeros((3, 2)))) == []


@pytest.mark.parametrize("content", [None, "", "a,b\n1,2\n", "actual,predicted\nHappy,Glad\n"])
def test_another_file_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "table.csv").write_text(content)
    with pytest.raises(UserError, match=r"table\.csv"):
        read_confusion(tmp_path / "table.csv")


def test_a_curve_goes_through_its_points_and_each_line_is_named() -> None:
    svg = ET.fromstring(
        lines_svg([Line("a", [(0, 0), (5, 1), (10, 0.5)]), Line("b", [(10, 1)], [4])], (0, 10), (0, 1), "t", "x", (100, 50))
    )
    frame = next(shape for shape in svg.iter(f"{SVG}rect") if shape.get("stroke") == "#ddd")
    left, top = float(frame.get("x", "")), float(frame.get("y", ""))
    path = next(shape.get("d", "") for shape in svg.iter(f"{SVG}path") if shape.get("stroke-width"))
    places = [tuple(map(float, pair.split())) for pair in path.lstrip("M").split("L")]
    assert places == [(left, top + 50), (left + 50, top), (left + 100, top + 25)]
    (dot,) = svg.iter(f"{SVG}circle")
    assert (float(dot.get("cx", "")), float(dot.get("cy", "")), dot.get("r")) == (left + 100, top, "4.0")
    assert {"a", "b", "t", "x"} <= {text.text for text in svg.iter(f"{SVG}text")}


def test_epochs_have_whole_ticks_and_the_chosen_one_a_dashed_line() -> None:
    svg = ET.fromstring(lines_svg([Line("a", [(1, 0), (30, 1)])], (1, 30), (0, 1), "t", "epoch", (290, 50), mark=11))
    ticks = [text.text or "" for text in svg.iter(f"{SVG}text") if text.text not in {"t", "epoch"}]
    assert sorted(ticks) == sorted(["1", "15", "30", "0", "0.5", "1"])
    (dashed,) = (path.get("d", "") for path in svg.iter(f"{SVG}path") if path.get("stroke-dasharray"))
    frame = next(shape for shape in svg.iter(f"{SVG}rect") if shape.get("stroke") == "#ddd")
    assert dashed.startswith(f"M{float(frame.get('x', '')) + 100:.1f} ")


@pytest.mark.parametrize(("value", "end"), [(1.65, 1.8), (2.0, 2.0), (0.83, 0.84), (12.3, 14), (0.0, 1.0)])
def test_an_axis_ends_at_a_round_value(value: float, end: float) -> None:
    assert rounded_up(value) == pytest.approx(end)
