"""UserError, the error that the user can fix, and the one place that turns errors into exit codes."""

import errno
import os
import reprlib
import sys
import traceback
from collections.abc import Callable, Sequence

USER_MISTAKE, BUG, INTERRUPTED = 2, 1, 130

MACHINE_FAULTS = {
    errno.ENOSPC: "free some of the disk",
    errno.EDQUOT: "free some of your quota",
    errno.EROFS: "make it writable",
    errno.EACCES: "fix its permissions",
    errno.EPERM: "fix its permissions",
    errno.EMFILE: "raise `ulimit -n`, or lower runtime.workers",
    errno.ENFILE: "end other programs",
    errno.ENOMEM: "lower runtime.workers or train.batch",
    **dict.fromkeys((errno.EIO, errno.ENXIO, errno.ENODEV), "check the disk, or remove the file if it is the only one that cannot be read"),
    **dict.fromkeys((errno.ESTALE, errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EREMOTEIO), "mount its disk again"),
}
"""Errors of the user's machine, and what the user can do about each."""

FILE_FAULTS = {errno.EACCES, errno.EPERM}
"""Those that concern only the file that is read, not the machine."""


class UserError(Exception):
    """A mistake in params, data or the command line: each problem is one line `param or file: problem, with the values; what to do`."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def many(count: int, noun: str) -> str:
    """`1 face`, `2 faces`."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def first_few(names: Sequence[object], most: int = 3) -> str:
    """`3: a, b, c` or `812: a, b, c, …`: a count and the first few, for messages about many things at once."""
    shown = ", ".join(one_line(str(name)) for name in names[:most])
    return f"{len(names):,}: {shown}" + (", …" if len(names) > most else "")


def one_line(text: str, longest: int = 300) -> str:
    """The text with control characters escaped and its middle cut out, so that any file name fits on one line."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    return safe if len(safe) <= longest else f"{safe[: longest // 2]}…{safe[-longest // 2 :]}"


def first_line(error: Exception) -> str:
    """The first line of the error's text, or the name of its class when it has none."""
    return one_line((str(error).splitlines() or [type(error).__name__])[0])


def user_problems(error: Exception) -> tuple[str, ...]:
    """One line for each problem that the user can fix: a mistake, a full disk and the like; nothing for a bug."""
    if isinstance(error, UserError):
        return error.problems
    if isinstance(error, MemoryError):
        return ("memory is full; lower runtime.workers or train.batch and run again",)
    if isinstance(error, OSError) and error.errno in MACHINE_FAULTS:
        file = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return (f"{file}{os.strerror(error.errno)}; {MACHINE_FAULTS[error.errno]} and run again",)
    return ()


def reraise_machine_fault(error: Exception, file: object) -> None:
    """Raises the error again, with the file's name, when the machine caused it: memory, disk, network, too many open files.

    Returns when the data may have caused it. Readers call it before they report a file as broken.
    """
    if isinstance(error, OSError) and error.errno in MACHINE_FAULTS.keys() - FILE_FAULTS:
        error.filename = error.filename or str(file)
        raise error
    if isinstance(error, MemoryError):
        raise error


def brief(value: object) -> str:
    """The value as Python writes it, cut short, however long or deep it is."""
    return _BRIEF.repr(value)


_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother = 3, 200, 200


def exit_code(command: Callable[[], object]) -> int:
    """Runs the command; returns 0, 2 after problems that the user can fix (one line each), 130 after Ctrl-C, 1 after a bug (traceback)."""
    try:
        command()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        problems = user_problems(error)
        for problem in problems:
            print(f"error: {one_line(problem, 1000)}", file=sys.stderr)
        if not problems:
            traceback.print_exc()
        return USER_MISTAKE if problems else BUG
    return 0
