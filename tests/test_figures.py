import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from affectnet.errors import UserError
from affectnet.figures import confusion_svg, read_confusion

ROOT = Path(__file__).parent.parent
TABLE = "actual,predicted\nHappy,Happy\nHappy,Sad\nSad,Sad\nSad,Sad\n"


def test_the_picture_shows_each_count_in_its_cell(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(TABLE)
    counts, names = read_confusion(tmp_path / "table.csv")
    assert np.array_equal(counts, [[1, 1], [0, 2]]) and names == ["Happy", "Sad"]
    texts = [element.text or "" for element in ET.fromstring(confusion_svg(counts, names)).iter() if element.tag.endswith("text")]
    assert sorted(texts) == sorted(["predicted", "actual", "Happy", "Happy", "Sad", "Sad", "1", "1", "2"])


@pytest.mark.parametrize("content", [None, "", "a,b\n1,2\n", "actual,predicted\nHappy,Glad\n"])
def test_another_file_is_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "table.csv").write_text(content)
    with pytest.raises(UserError, match=r"table\.csv"):
        read_confusion(tmp_path / "table.csv")


def test_the_picture_in_the_readme_is_of_the_committed_metrics(tmp_path: Path) -> None:
    table, made = ROOT / "metrics" / "evaluate" / "confusion.csv", tmp_path / "made.svg"
    subprocess.run([sys.executable, "-m", "affectnet.figures", str(table), str(made)], cwd=ROOT, check=True)
    assert made.read_text() == (ROOT / "docs" / "demo_confusion.svg").read_text()
