"""Progress in a log file: one line per minute, none for what is quick."""

import pytest

from affectnet.running.progress import logged, progress


def test_a_log_file_gets_a_line_per_minute_and_none_for_what_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter(range(0, 1000, 25))
    assert list(logged([*"abcdefg"], "epoch 3", None, "step", lambda: float(next(times)))) == [*"abcdefg"]
    assert capsys.readouterr().err == "epoch 3: 2 of 7 steps, 75 s\nepoch 3: 5 of 7 steps, 150 s\n"
    assert list(progress(iter(range(3)), "predict", unit="file")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
