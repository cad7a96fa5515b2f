"""`affectnet predict --track`: faces that keep their number, smoothed predictions, and annotated copies of films."""

import csv
import io
import json
import math
import re
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from films import SIDE, frame, person, with_durations, write_film
from PIL import Image
from portraits import MODEL, write_model

from affectnet.__main__ import main
from affectnet.images.video import frame_rate, frames
from affectnet.predict.annotate import annotated_answer
from affectnet.predict.colours import COLOURS
from affectnet.predict.films.film_copy import at_constant_rate
from affectnet.predict.films.smoothing import Smoother
from affectnet.predict.films.tracks import BRIDGE_S, CUT, Tracker, difference, look
from affectnet.predict.paths import Shot
from affectnet.predict.predictor import Face
from affectnet.predict.writers import Answer

Command = Callable[..., tuple[int, str, str]]
Box = tuple[float, float, float, float]

STILL = np.arange(768.0).reshape(16, 16, 3) % 251
"""A scene in which nothing is cut."""


@pytest.fixture
def run(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `affectnet predict` in a folder with a model; returns exit code, stdout and stderr."""
    write_model()

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main(["predict", *map(str, arguments), "--model", str(MODEL)])
        return code, *capsys.readouterr()

    return run


def rows(run: Command, *arguments: object) -> list[dict[str, str]]:
    code, out, err = run(*arguments, "--csv")
    assert code == 0, err
    return list(csv.DictReader(io.StringIO(out)))


def square(x: float, y: float = 100.0, side: float = 80.0) -> Box:
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2


def numbers(*frames_of_film: tuple[float, list[Box]]) -> list[list[int]]:
    tracker = Tracker()
    return [tracker.follow(seconds, STILL, boxes) for seconds, boxes in frames_of_film]


def test_a_face_that_moves_by_its_width_between_frames_keeps_its_number() -> None:
    assert numbers(*((at / 5, [square(100 + 80 * at)]) for at in range(10))) == [[1]] * 10


def test_faces_that_cross_keep_their_numbers_though_one_hides_the_other() -> None:
    """The face behind is not detected while more than half of it is covered; the order of the boxes changes, too."""
    film = []
    for at in range(40):
        front, behind = square(100 + 12 * at), square(560 - 12 * at, 110)
        hidden = abs(front[0] - behind[0]) < 40
        film.append((at / 10, [front] if hidden else [front, behind] if at % 2 else [behind, front]))
    assert sum(len(boxes) == 1 for _, boxes in film) >= 3
    followed = numbers(*film)
    first = {box: number for (_, boxes), seen in zip(film[:1], followed[:1], strict=True) for box, number in zip(boxes, seen, strict=True)}
    assert first == {square(560, 110): 1, square(100): 2}
    for (_, boxes), seen in zip(film, followed, strict=True):
        assert dict(zip(boxes, seen, strict=True)) == {box: 2 if box[1] == 60 else 1 for box in boxes}


def test_a_short_gap_keeps_the_number_and_a_long_one_does_not() -> None:
    before = [(at / 10, [square(100)]) for at in range(5)]
    assert numbers(*before, (0.4 + BRIDGE_S, [square(110)]))[-1] == [1]
    assert numbers(*before, (0.5 + BRIDGE_S, [square(110)]))[-1] == [2]


def test_a_new_face_next_to_a_known_one_gets_the_next_number() -> None:
    assert numbers((0, [square(100)]), (0.2, [square(300), square(102)]), (0.4, [square(104), square(300)])) == [[1], [2, 1], [1, 2]]


def test_frames_with_the_same_time_are_followed_too() -> None:
    assert numbers((0, [square(100)]), (0, [square(101)]), (0, [square(102)]), (0.1, [square(103)])) == [[1]] * 4


def test_a_cut_is_no_motion_no_light_and_no_one_who_walks_through_the_picture() -> None:
    street, room = "#7a8a99", "#5b3a29"
    first = frame((person(4), 100, 40), shade=street)
    moved = frame((person(4), 140, 30), shade=street)
    darker = (first * 0.75).astype(np.uint8)
    joined = frame((person(4), 100, 40), (person(9), 400, 40), shade=street)
    other = frame((person(11), 330, 40), shade=room)
    for later in (first, moved, darker, joined):
        assert difference(look(first), look(later)) < CUT
    assert difference(look(first), look(other)) > 1.5 * CUT
    black = np.zeros_like(first)
    assert difference(look(black), look(black)) == 0


def test_a_cut_ends_a_track_in_place(run: Command, workspace: Path) -> None:
    """Two people at the same place, before and after the cut."""
    shots = [frame((person(4), 220, 30))] * 10 + [frame((person(2), 220, 30), (person(6), 20, 60), shade="#2b4d3a")] * 10
    write_film(workspace / "cut.mp4", shots)
    followed = [(float(row["seconds"]), int(row["track"])) for row in rows(run, "cut.mp4", "--track", "--every", 0)]
    assert {track for seconds, track in followed if seconds < 1} == {1}
    assert {track for seconds, track in followed if seconds >= 1} == {2, 3}


def test_two_people_who_cross_in_a_film_keep_their_numbers(run: Command, workspace: Path) -> None:
    """In every form, with the time of each frame; no row for a frame without a face."""
    left = [20 + 11 * at for at in range(40)]
    shots = [frame((person(4), 440 - at, 40), (person(2), at, 30)) for at in left]
    write_film(workspace / "crossing.mp4", [*shots, *[frame()] * 5])
    table = rows(run, "crossing.mp4", "--track", "--every", 0)
    owners: dict[str, set[str]] = {}
    for row in table:
        at = left[round(10 * float(row["seconds"]))]
        middle = (float(row["left"]) + float(row["right"]) - SIDE) / 2
        if abs(at - (440 - at)) > 60:
            owners.setdefault(row["track"], set()).add("front" if abs(middle - at) < 30 else "behind")
    assert sorted(owners) == ["1", "2"] and sorted(map(tuple, owners.values())) == [("behind",), ("front",)]
    assert max(float(row["seconds"]) for row in table) < 4

    code, out, err = run("crossing.mp4", "--track", "--every", 0, "--json")
    objects = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and f"45 frames of videos, {len(table)} faces in 2 tracks, 5 without a face, 0 unreadable" in err
    assert len(objects) == 45 and [one["faces"] for one in objects[-5:]] == [[]] * 5
    as_csv = [(row["seconds"], row["track"]) for row in table]
    assert [(str(one["seconds"]), str(face["track"])) for one in objects for face in one["faces"]] == as_csv
    assert run("crossing.mp4", "--track", "--every", 0, "--parquet", "crossing.parquet")[0] == 0
    assert [(str(row["seconds"]), str(row["track"])) for row in pq.read_table("crossing.parquet").to_pylist()] == as_csv
    lines = run("crossing.mp4", "--track", "--every", 0)[1].splitlines()
    assert len(lines) == len(table) and lines[0].startswith(f"crossing.mp4  0.000 s  face {table[0]['track']}  ")


def test_a_person_who_hides_for_a_moment_keeps_the_number(run: Command, workspace: Path) -> None:
    shown, hidden = frame((person(4), 200, 30)), frame((Image.new("RGB", (SIDE, SIDE), "#445566"), 200, 30))
    write_film(workspace / "gap.mp4", [*[shown] * 5, *[hidden] * 8, *[shown] * 5])
    table = rows(run, "gap.mp4", "--track", "--every", 0)
    assert {row["track"] for row in table} == {"1"} and len(table) == 10


def test_photographs_among_films_have_no_track(run: Command, workspace: Path) -> None:
    Image.fromarray(frame((person(4), 200, 30))).save("photo.png")
    write_film(workspace / "film.mp4", [frame((person(4), 200, 30))] * 3)
    table = rows(run, "photo.png", "film.mp4", "film.mp4", "--track", "--every", 0)
    assert [row["track"] for row in table] == ["", *["1"] * 6]
    (first, *_) = run("photo.png", "--track", "--json")[1].splitlines()
    assert "track" not in json.loads(first)["faces"][0]


@pytest.mark.parametrize(
    ("options", "named"),
    [(["--track"], "--track"), (["--every", 0], "--every"), (["--smooth", 1, "--track"], "--track, --smooth"), ([], None)],
)
def test_options_of_videos_without_a_video_are_named(run: Command, workspace: Path, options: Sequence[Any], named: str | None) -> None:
    Image.fromarray(frame((person(4), 200, 30))).save("photo.png")
    code, _, log = run("photo.png", *options)
    assert code == 0 and [line for line in log.splitlines() if "for videos" in line] == (
        [f"predict: {named}: for videos, of which no frame was read"] if named else []
    )


def test_times_of_a_variable_rate_are_those_of_the_file(run: Command, workspace: Path) -> None:
    durations = [0.1, 0.4, 0.1, 0.7, 0.2, 0.1, 1.3, 0.1]
    write_film(workspace / "phone.mp4", [frame((person(4), 200, 30))] * len(durations))
    path = workspace / "phone.mp4"
    path.write_bytes(with_durations(path.read_bytes(), durations))
    starts = np.cumsum([0, *durations[:-1]])
    table = rows(run, "phone.mp4", "--track", "--every", 0)
    assert [float(row["seconds"]) for row in table] == pytest.approx(starts, abs=0.002)
    table = rows(run, "phone.mp4", "--track", "--every", 0.5)
    assert [float(row["seconds"]) for row in table] == pytest.approx([0, 0.5, 1.3, 1.5, 2.9], abs=0.002)


def test_followed_films_are_read_five_times_a_second(run: Command, workspace: Path) -> None:
    write_film(workspace / "film.mp4", [frame((person(4), 200, 30))] * 20)
    assert len(rows(run, "film.mp4")) == 2 and len(rows(run, "film.mp4", "--smooth", 1)) == 10


def test_a_face_keeps_its_number_however_far_apart_the_frames_are(run: Command, workspace: Path) -> None:
    write_film(workspace / "slow.mp4", [frame((person(4), 200, 30))] * 14, 1)
    table = rows(run, "slow.mp4", "--smooth", 5, "--every", 3)
    assert [float(row["seconds"]) for row in table] == [0, 3, 6, 9, 12] and {row["track"] for row in table} == {"1"}


def test_at_a_long_interval_a_face_that_one_frame_lacks_gets_a_new_number() -> None:
    tracker = Tracker(3)
    film = [(0, [square(100)]), (3.04, [square(100)]), (6, []), (9.04, [square(100)])]
    assert [tracker.follow(seconds, STILL, boxes) for seconds, boxes in film] == [[1], [1], [], [2]]


def face(values: list[float], affect: tuple[float, float] | None = (0.0, 0.0), box: Box = (0, 0, 10, 10)) -> Face:
    probabilities = dict(zip(COLOURS, values, strict=False))
    return Face(box, max(probabilities, key=probabilities.__getitem__), probabilities, *(affect or (None, None)))


@pytest.mark.parametrize("step", [0.04, 0.2, 0.5])
def test_smoothing_is_in_time_whatever_the_rate(step: float) -> None:
    """After one time constant a change is 1 − 1/e done: of log-probabilities, valence and arousal."""
    smoother, before, after = Smoother(1.0), [0.9, 0.1], [0.2, 0.8]
    smoother.smooth(1, 0.0, face(before, (-0.5, 0.2)))
    for number in range(1, round(1 / step) + 1):
        smoothed = smoother.smooth(1, number * step, face(after, (0.5, 0.2)))
    done = 1 - math.exp(-1)
    odds = math.log(smoothed.probabilities["Neutral"] / smoothed.probabilities["Happy"])
    assert odds == pytest.approx((1 - done) * math.log(9) + done * math.log(0.25), abs=1e-6)
    assert smoothed.valence == pytest.approx(-0.5 + done) and smoothed.arousal == pytest.approx(0.2)
    assert sum(smoothed.probabilities.values()) == pytest.approx(1) and smoothed.expression == "Happy"


def test_after_a_gap_the_past_counts_little_and_each_face_has_its_own() -> None:
    smoother = Smoother(0.5)
    smoother.smooth(1, 0.0, face([0.99, 0.01]))
    assert smoother.smooth(2, 0.1, face([0.2, 0.8])).probabilities["Happy"] == pytest.approx(0.8)
    assert smoother.smooth(1, 5.0, face([0.2, 0.8])).probabilities["Happy"] == pytest.approx(0.8, abs=1e-3)
    certain = smoother.smooth(3, 0.0, face([1.0, 0.0], None))
    assert certain.probabilities["Neutral"] > 0.999 and certain.valence is None


def test_frames_of_the_past_change_nothing() -> None:
    smoother = Smoother(0.5)
    smoother.smooth(1, 1.0, face([0.9, 0.1]))
    assert smoother.smooth(1, 0.5, face([0.1, 0.9])).probabilities["Neutral"] == pytest.approx(0.9)


def test_on_a_still_face_with_noise_the_label_changes_five_times_less(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the shipped model, on an expression between two."""
    generator = np.random.default_rng(5)
    still = frame((person(6, "Neutral", "Surprise", 0.5), 200, 30)).astype(np.float64)
    noisy = (np.clip(still + generator.normal(0, 28, still.shape), 0, 255).astype(np.uint8) for _ in range(120))
    write_film(workspace / "still.mp4", noisy, 20)
    changes = []
    for options in ([], ["--smooth", "1"]):
        assert main(["predict", "still.mp4", "--track", "--every", "0", "--csv", *options]) == 0
        table = [row for row in csv.DictReader(io.StringIO(capsys.readouterr().out)) if row["track"] == "1"]
        assert len(table) == 120
        changes.append(sum(one["expression"] != other["expression"] for one, other in pairwise(table)))
    assert changes[0] >= 10 and changes[1] * 5 <= changes[0], changes


def test_the_copy_of_a_film_has_all_its_frames_with_the_faces_in_between(run: Command, workspace: Path) -> None:
    shots = [frame((person(4), 20 + 10 * at, 30), height=241, width=643) for at in range(24)]
    write_film(workspace / "film.mp4", shots, 12)
    before = (workspace / "film.mp4").read_bytes()
    code, _, err = run("film.mp4", "--annotate", "copies", "--track", "--every", 0.5)
    assert code == 0, err
    source, copy = list(frames("film.mp4", 0)), list(frames("copies/film.mp4", 0))
    assert frame_rate("copies/film.mp4") == pytest.approx(12) and (workspace / "film.mp4").read_bytes() == before
    assert [seconds for seconds, _ in copy] == pytest.approx([seconds for seconds, _ in source], abs=0.002)
    for at, ((_, plain), (_, marked)) in enumerate(zip(source, copy, strict=True)):
        assert marked.shape[0] == plain.shape[0] // 2 * 2 and marked.shape[1] == plain.shape[1] // 2 * 2
        height, width = marked.shape[:2]
        changed = np.abs(marked.astype(np.int16) - plain[:height, :width]).max(2) > 60
        columns = np.flatnonzero(changed[120:160].sum(0) > 20)
        middle = (columns.min() + columns.max()) / 2
        assert abs(middle - (20 + 10 * min(at, 18) + SIDE / 2)) < 25, at


def test_frames_that_a_copy_lacks_are_counted(run: Command, workspace: Path) -> None:
    """Of a film above 60 frames per second, and of one that has frames faster than its mean; not of others."""
    shots = [frame((person(4), 200, 30)) for _ in range(24)]
    write_film(workspace / "fast.mp4", shots, 120)
    write_film(workspace / "phone.mp4", shots)
    durations = [1 / 30] * 15 + [2 / 15] * 9
    (workspace / "phone.mp4").write_bytes(with_durations((workspace / "phone.mp4").read_bytes(), durations))
    write_film(workspace / "plain.mp4", shots)
    lacking = 0
    for name in ("fast", "phone", "plain"):
        code, _, err = run(f"{name}.mp4", "--annotate", "copies")
        counted = re.findall(
            r"^predict: frames of videos that are not in the copies, which have at most 60 a second, .*: (\d+)$", err, re.MULTILINE
        )
        assert code == 0 and len(counted) == (name != "plain"), err
        written = len(list(frames(f"copies/{name}.mp4", 0)))
        if name == "fast":
            assert int(counted[0]) == 24 - written > 8
        lacking += sum(map(int, counted))
    err = run("fast.mp4", "phone.mp4", "plain.mp4", "--annotate", "copies")[2]
    assert err.endswith(f", each for the same time: {lacking}\n")


def test_the_copy_of_a_film_of_a_variable_rate_shows_each_frame_as_long() -> None:
    numbered = [(0.5, 1), (0.6, 2), (1.0, 3), (1.01, 4), (1.02, 5), (1.3, 6)]
    shown = [int(picture[0, 0, 0]) for picture in at_constant_rate(((t, np.full((1, 1, 3), n, np.uint8)) for t, n in numbered), 10)]
    assert shown == [1, 2, 2, 2, 2, 5, 5, 5, 6]


def test_copies_of_films_overwrite_nothing_but_themselves(run: Command, workspace: Path) -> None:
    shots = [frame((person(4), 200, 30))] * 6
    (workspace / "copies").mkdir()
    (workspace / "copies" / "film.mp4").write_text("mine")
    (workspace / "films").mkdir()
    write_film(workspace / "film.mp4", shots)
    write_film(workspace / "films" / "film.mp4", shots[:3])
    for _ in range(2):
        assert run("film.mp4", "films", "--annotate", "copies")[0] == 0
        assert sorted(path.name for path in Path("copies").glob("*.*")) == ["film-2.mp4", "film-3.mp4", "film.mp4"]
    assert Path("copies/film.mp4").read_text() == "mine"
    assert [len(list(frames(f"copies/film-{number}.mp4", 0))) for number in (2, 3)] == [6, 3]
    code, _, err = run("film.mp4", "--annotate", ".")
    assert code == 2 and err == "error: .: the copy of film.mp4 would overwrite it; give another folder\n"


def test_of_a_broken_film_what_can_be_read_is_answered_and_copied(run: Command, workspace: Path) -> None:
    write_film(workspace / "film.mkv", [frame((person(4), 100 + at % 50, 30)) for at in range(80)])
    content = (workspace / "film.mkv").read_bytes()
    (workspace / "film.mkv").write_bytes(content[: len(content) // 3])
    (workspace / "text.mp4").write_text("no film")
    code, out, err = run("film.mkv", "text.mp4", "--annotate", "copies", "--track", "--timeline", "page.html", "--json")
    answered = [json.loads(line) for line in out.splitlines()]
    *problems, last = err.splitlines()
    assert code == 2 and answered and len(problems) == 2 and last.endswith(", 2 unreadable")
    assert problems[0].startswith("error: film.mkv: unreadable video: ") and problems[1].startswith("error: text.mp4: unreadable video")
    assert [path.name for path in Path("copies").iterdir()] == ["film.mp4"] and "film.mkv" in Path("page.html").read_text()
    assert list(frames("copies/film.mp4", 0))[-1][0] >= answered[-1]["seconds"]


def test_without_opencv_a_film_is_one_line_and_photographs_go_on(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_film(workspace / "film.mp4", [frame((person(4), 200, 30))] * 3)
    Image.fromarray(frame((person(4), 200, 30))).save("photo.png")
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert main(["predict", "film.mp4", "photo.png", "--annotate", "copies"]) == 2
    out, err = capsys.readouterr()
    assert out.startswith("photo.png  ") and "1 unreadable" in err and Path("copies/photo.jpg").is_file()
    assert "error: film.mp4: needs OpenCV, which is not installed; pip install 'affectnet-pipeline[video]'\n" in err


def test_a_whole_photograph_is_marked_so_in_its_copy(run: Command, workspace: Path) -> None:
    Image.new("RGB", (300, 200), "#335577").save("plain.png")
    assert run("plain.png", "--annotate", "copies")[0] == 0
    with Image.open("copies/plain.jpg") as copy:
        pixels = np.asarray(copy, np.int16)
    assert np.abs(pixels[100:195, 10:290] - (0x33, 0x55, 0x77)).max() < 30 and np.abs(pixels[3:25, 5:60] - (0x33, 0x55, 0x77)).max() > 100
    answer = Answer(Shot("a", "a", 1.0), [face([0.6, 0.4], box=square(100))], tracks=[12])
    numbered, plain = (annotated_answer(np.zeros((200, 200, 3), np.uint8), one) for one in (answer, Answer(answer.shot, answer.faces)))
    assert (numbered > 0).sum() > (plain > 0).sum()
