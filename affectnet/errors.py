"""The one kind of error that is the user's to mend, and the one place that turns errors into exit codes."""

import reprlib
import sys
import traceback
from collections.abc import Callable, Sequence

USER_MISTAKE, BUG, INTERRUPTED = 2, 1, 130


class UserError(Exception):
    """A mistake in params, data or command line: each problem is one line `place: what, with the values; what to do`."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def first_few(names: Sequence[object], most: int = 3) -> str:
    """`3: a, b, c` or `812: a, b, c, …`: a count and the first few, for messages about many things at once."""
    shown = ", ".join(one_line(str(name)) for name in names[:most])
    return f"{len(names):,}: {shown}" + (", …" if len(names) > most else "")


def one_line(text: str, longest: int = 300) -> str:
    """The text with control characters escaped and its middle cut out, so that any file name fits on one line."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return safe if len(safe) <= longest else f"{safe[: longest // 2]}…{safe[-longest // 2 :]}"


def brief(value: object) -> str:
    """The value as Python writes it, cut short however long, deep or often repeated its parts are."""
    return _BRIEF.repr(value)


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother = 3, 200, 200


def exit_code(command: Callable[[], object]) -> int:
    """Runs the command; returns 0, 2 after a user's mistake (one line each), 130 after Ctrl-C, 1 after a bug (traceback)."""
    try:
        command()
    except UserError as error:
        for problem in error.problems:
            print(f"error: {one_line(problem, 1000)}", file=sys.stderr)
        return USER_MISTAKE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception:
        traceback.print_exc()
        return BUG
    return 0
