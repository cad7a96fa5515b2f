"""Keeps data sets out of Git: `python -m tools.guard` checks every file of the index, `--staged` what a commit would add,
`--push` what a push would send.

One line per file that tools/licensed.py refuses, exit code 2. Git's hooks in hooks/ call it. It needs only the standard
library, so that they run with any Python.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from affectnet.errors import UserError, exit_code, many
from tools.licensed import LONGEST, File, reason


class Entry(NamedTuple):
    """A file in Git: its name, its object, and its mode."""

    name: str
    sha: str
    mode: str


def _git(*arguments: str, stdin: str | None = None) -> str:
    """Git's output. Errors: UserError when it fails, such as outside a repository."""
    try:
        process = subprocess.run(["git", *arguments], capture_output=True, input=None if stdin is None else stdin.encode(), check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", b"").decode(errors="replace").strip()
        raise UserError(f"git {arguments[0]}: {reason or error}") from None
    text: str = process.stdout.decode(errors="surrogateescape")
    return text


RAW = ("--raw", "-z", "--no-renames", "--no-abbrev", "--diff-filter=d", "--ignore-submodules=none")
"""Options of `git diff` that list every added or changed file."""


def tracked() -> Iterator[Entry]:
    """The files of the index."""
    for entry in filter(None, _git("ls-files", "--stage", "-z").split("\0")):
        about, _, name = entry.partition("\t")
        mode, sha, _ = about.split()
        yield Entry(name, sha, mode)


def staged() -> Iterator[Entry]:
    """The files that a commit would add or change."""
    return _changed(_git("diff", "--cached", "--no-relative", *RAW))


def pushed(remote: str, refs: str) -> Iterator[Entry]:
    """The files that a push would add or change, in any of its commits. refs: as Git gives them to a pre-push hook, by line."""
    tips = [line.split()[1] for line in refs.splitlines()]
    tips = [tip for tip in tips if tip.strip("0")]  # zeros: the push deletes the branch
    if tips:
        commits = _git("rev-list", *tips, "--not", f"--remotes={remote}")
        yield from _changed(_git("diff-tree", "--stdin", "--root", "-r", "-m", "--no-commit-id", *RAW, stdin=commits))


def _changed(raw: str) -> Iterator[Entry]:
    parts = raw.split("\0")
    for about, name in zip(parts[::2], parts[1::2], strict=False):
        _, mode, _, sha, _ = about.split()
        yield Entry(name, sha, mode)


def in_git(entries: Iterable[Entry]) -> Iterator[File]:
    """Each entry with its content, without duplicates."""
    with subprocess.Popen(["git", "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as batch:
        assert batch.stdin and batch.stdout
        for name, sha, mode in dict.fromkeys(entries):
            if mode == "160000":
                yield File(name, None, 0)
                continue
            batch.stdin.write(f"{sha}\n".encode())
            batch.stdin.flush()
            size = int(batch.stdout.readline().split()[2])
            content = batch.stdout.read(min(size, LONGEST))
            rest = size - len(content) + 1  # a line end follows
            while rest:
                rest -= len(batch.stdout.read(min(rest, LONGEST)))
            yield File(name, content, size)


def on_disk(names: Iterable[str]) -> Iterator[File]:
    """Each file on the disk. Errors: UserError when one cannot be read."""
    for name in names:
        try:
            with Path(name).open("rb") as file:
                yield File(name, file.read(LONGEST), Path(name).stat().st_size)
        except OSError as error:
            raise UserError(f"{name}: cannot be read: {error.strerror}") from None


def check(files: Iterable[File]) -> int:
    """The number of files. Errors: UserError with a line for each that may not enter Git."""
    count, problems = 0, []
    for count, file in enumerate(files, 1):  # noqa: B007
        if problem := reason(*file):
            problems.append(f"{file.name}: {problem}; keep it out of Git, or allow it in tools/licensed.py if it is not of a data set")
    if problems:
        raise UserError(*problems)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.guard", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files on the disk to check; none: all of the index")
    parser.add_argument("--staged", action="store_true", help="what a commit would add or change")
    parser.add_argument(
        "--push", metavar="REMOTE", help="what a push to this remote would send; refs on stdin, as Git's pre-push hook gets them"
    )
    options = parser.parse_args()
    if options.paths:
        files = on_disk(options.paths)
    elif options.push is not None:
        files = in_git(pushed(options.push, sys.stdin.read()))
    else:
        files = in_git(staged() if options.staged else tracked())
    print(f"guard: {many(check(files), 'file')}, nothing of a data set")


if __name__ == "__main__":
    sys.exit(exit_code(main))
