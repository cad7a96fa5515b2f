"""Every benchmark at its smallest size: its output is tested, not the times."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from clones import Clone

from affectnet.errors import exit_code
from benchmarks import __main__ as benchmarks
from benchmarks.label_errors import with_errors
from benchmarks.timing import ABSENT, Failure, Row, heading, line, run_process

ROWS = {"images": 4, "lists": 4, "training": 3, "predict": 8, "workers": 2, "idle": 1, "growth": 10}


def table(printed: str) -> list[list[str]]:
    """The cells of the table's rows."""
    lines = [line for line in printed.splitlines() if line.startswith("|")]
    assert "\n".join(lines[:2]) == heading()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("name", benchmarks.NAMES)
def test_each_benchmark_measures_ours_and_its_peers(reproduced: Clone, name: str) -> None:
    done = reproduced.attempt("python", "-m", "benchmarks", "--smallest", name)
    rows = table(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(rows) == ROWS[name] and done.stderr == ""
    for _, unit, ours, others, ratio, *_ in rows:
        numbers = [ours, ratio, *re.findall(r" ([\d.,]*\d)(?:,|$)", f" {others}")]
        assert unit and len(numbers) > 2 and all(float(number.replace(",", "")) >= 0 for number in numbers)


def test_the_pixels_and_the_learning_curve_give_their_numbers(reproduced: Clone) -> None:
    said = reproduced.run("python", "-m", "benchmarks.pixels_baseline")
    assert re.fullmatch(r"macro-F1 on test: pixels 0\.\d+, network 0\.\d+, -?\d+\.\d points between them\n", said)
    points = ["6=0.5", "12=0.6", "24=0.65", "48=0.675"]
    said = reproduced.run("python", "-m", "benchmarks.learning_curve", "--deviation", "0.001", "--to", "96", "--", *points)
    assert re.fullmatch(r"96 epochs: 0\.68\d \(0\.\d+ – 0\.\d+\)\n", said)


def test_label_noise_is_the_share_that_was_asked_for_and_falls_where_faces_are_confused() -> None:
    labels, chances = np.repeat([0, 1, 2], 400), np.array([[9.0, 3, 1], [0, 5, 1], [1, 1, 0]])
    noisy, again, other = (with_errors(labels, chances, 0.25, np.random.default_rng(seed)) for seed in (3, 3, 4))
    wrong = noisy != labels
    assert wrong.sum() == 300 and np.array_equal(noisy, again) and not np.array_equal(wrong, other != labels)
    assert with_errors(labels, chances, 0.0, np.random.default_rng(3)) is not labels
    became = [np.bincount(noisy[wrong & (labels == label)], minlength=3) for label in range(3)]
    assert became[0][1] > 2 * became[0][2] > 0 and became[1][0] == 0 and became[1][2] > 0 and min(became[2][:2]) > 25


def test_a_cut_benchmark_of_label_noise_loses_no_training_and_repeats_none(reproduced: Clone, tmp_path: Path) -> None:
    results = tmp_path / "noise.jsonl"
    grid = [
        "--methods",
        "logit_adjusted",
        "born_again",
        "--noise",
        "confused",
        "--shares",
        "0.3",
        "--seeds",
        "11",
        "--epochs",
        "1",
        "--image-px",
        "32",
        "--start",
        "models/model.safetensors",
    ]
    command = ["python", "-m", "benchmarks.label_noise", str(results), "--data", "demo=data", *grid]
    reproduced.run(*command, "--methods", "logit_adjusted")
    assert len(results.read_text().splitlines()) == 2
    with results.open("a") as file:
        file.write('{"data": "demo", "meth')  # cut
    said = reproduced.run(*command)
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(line["method"], line["share"]) for line in lines] == [("logit_adjusted", 0), ("logit_adjusted", 0.3), ("born_again", 0.3)]
    faces = sum(map(sum, lines[0]["confusion"]))
    assert lines[0]["wrong_labels"] == 0 and lines[0]["memorised"] is None and faces > 10 and len(lines[0]["confusion"]) == 8
    assert 0 < lines[1]["wrong_labels"] == lines[2]["wrong_labels"] and 0 <= lines[2]["memorised"] <= 1
    assert re.search(
        r"\| demo, vgg16_small from model\.safetensors, 1 epochs, 32 px, macro_f1 \| none \| 30 %, confused \|\n.*\n"
        r"\| `logit_adjusted` \| 0\.\d{3} \(n = 1\) \|",
        said,
    )
    written = results.read_bytes()
    assert reproduced.run(*command) == said and results.read_bytes() == written
    failed = reproduced.attempt(*command[:4], "--data", "demo=nowhere")
    assert failed.returncode == 2 and "demo=nowhere: not NAME=FOLDER" in failed.stderr


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The output before the second row of the part `first`, which then fails; `second` does not."""
    printed: list[str] = []

    def first(*_: object) -> Iterator[Row]:
        yield Row("one", "s", {"ours": 2.0, "peer": 4.0})
        printed.append(capsys.readouterr().out)
        raise ValueError("astray\nin two lines")

    def second(*_: object) -> Iterator[Row]:
        yield Row("two", "images/s", {"ours": 20.0, "peer": 10.0, "other": ABSENT}, 2.5)

    for name, rows in (("first", first), ("second", second)):
        module = ModuleType(name)
        module.rows = rows  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, f"benchmarks.{name}", module)
    monkeypatch.setattr(benchmarks, "NAMES", ("first", "second"))
    monkeypatch.setattr("sys.argv", ["benchmarks"])
    return printed


def test_a_row_is_printed_when_it_is_measured_and_a_part_that_fails_is_a_row(parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        exit_code(benchmarks.main)
    assert ended.value.code == 1
    rows = table(parts[0] + capsys.readouterr().out)
    assert rows == [
        ["one", "s", "2.00", "peer 4.00", "2.00", "", ""],
        ["first", "", "failed", r"ValueError: astray\nin two lines", "", "", "FAILED"],
        ["two", "images/s", "20.0", "peer 10.0, other not installed", "2.00", "≥ 2.50", "MISSED"],
    ]
    assert "one" in parts[0]


def test_a_process_that_fails_is_a_row_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_process(["-c", "print('shown'); raise ValueError('broken')"], tmp_path)
    assert Failure("part", caught.value).cells[2:4] == ("failed", "ValueError: broken")


def test_without_any_peer_a_row_has_no_ratio() -> None:
    assert "nan" in line(Row("only ours", "s", {"ours": 1.0, "peer": ABSENT}).cells)


def test_the_processor_is_named_with_its_vector_instructions() -> None:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        pytest.skip("needs Linux")
    assert ("AVX-512" in benchmarks.processor()) == (" avx512f " in info.read_text())
