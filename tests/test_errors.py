import pytest

from affectnet.errors import UserError, exit_code, first_few, one_line


def test_a_users_mistake_is_one_line_a_problem_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise UserError("a: wrong", "b: wrong\ntoo")

    assert exit_code(command) == 2
    assert capsys.readouterr().err == "error: a: wrong\nerror: b: wrong\\ntoo\n"


def test_a_bug_keeps_its_traceback_and_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    empty: dict[str, int] = {}
    assert exit_code(lambda: empty["a"]) == 1
    assert "KeyError" in capsys.readouterr().err


def test_ctrl_c_is_exit_code_130() -> None:
    def command() -> None:
        raise KeyboardInterrupt

    assert exit_code(command) == 130
    assert exit_code(lambda: None) == 0


def test_many_names_are_counted_and_the_first_few_shown() -> None:
    assert first_few(["a", "b"]) == "2: a, b"
    assert first_few([str(n) for n in range(1234)]) == "1,234: 0, 1, 2, …"


def test_any_file_name_fits_on_one_printable_line() -> None:
    assert one_line("a\nb\x00\udcff") == "a\\nb\\x00\\udcff"
    assert len(one_line("x" * 5000)) == 301
