"""The walk over a download: every file below its root, for one stat per file, and the links that it follows."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from stat import S_ISREG

from affectnet.errors import UserError, first_few, reraise_machine_fault

File = tuple[str, bytes | None, int, int]
"""Path below the root; its real name where that is not UTF-8, so that the path is escaped; bytes; time of change in ns."""


HIDDEN = re.compile(r"(^|/)(\.|__MACOSX(/|$))")
"""Matches a path below the root that systems and tools leave in a folder, as `._x.jpg`, `.ipynb_checkpoints/` and `__MACOSX/`."""


def folders_below(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Each folder below the root with the names of its folders and files, sorted, as os.walk returns them; links are followed.

    Hidden files and folders are left out: they are not part of a data set. To skip a folder, the caller removes its name from the
    first list. `verify` decides whether links may lead out of the root, before anything there is read.
    """
    links = FollowedLinks(root)
    for folder, below, files in os.walk(root, followlinks=True):
        names = _without_hidden(below)
        yield Path(folder), names, _without_hidden(files)
        below[:] = [Path(path).name for path in links.entered([str(Path(folder) / name) for name in names])]


def visible_names(folder: Path) -> list[str]:
    """The names in the folder, sorted, without hidden files; none where the folder is missing."""
    return _without_hidden([entry.name for entry in os.scandir(folder)]) if folder.is_dir() else []


def _without_hidden(names: list[str]) -> list[str]:
    return sorted(name for name in names if not HIDDEN.search(name))


class FollowedLinks:
    """Which links to folders are followed: those to a folder outside the root that does not hold the root, each such folder once.

    So every walk ends, even with links in a circle. A link to a folder within the root is not followed: its files have paths of their own.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._entered = Path(os.path.realpath(root)), set[Path]()

    def leads_out(self, link: str) -> bool:
        return not Path(os.path.realpath(link)).is_relative_to(self._root)

    def entered(self, folders: Sequence[str]) -> list[str]:
        """Those of the folders that are entered, in their order: all that are no links, and links as by `enter`."""
        return [path for path in folders if not Path(path).is_symlink() or self.enter(path)]

    def enter(self, link: str) -> bool:
        """Whether to enter the folder that a link leads to; true once for each folder."""
        target = Path(os.path.realpath(link))
        if target in self._entered or target.is_relative_to(self._root) or self._root.is_relative_to(target):
            return False
        self._entered.add(target)
        return True


def readable(name: str) -> str:
    """The name of a file as text: bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def files_below(root: Path, follow: bool) -> Iterator[File]:
    """Each file below the root, those of hidden folders last. follow: also through links that lead out of the root.

    So of several links to a folder the one is followed that `folders_below` follows. Errors: UserError, at the end, when folders
    cannot be read, or links lead out of the root and `follow` is false.
    """
    links = FollowedLinks(root)
    leaving: list[str] = []
    unread: list[str] = []
    folders, hidden, start = [str(root)], list[str](), len(os.path.join(root, ""))  # noqa: PTH118 (420,000 files)
    while folders:
        below: list[str] = []
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    leads_out = entry.is_symlink() and links.leads_out(entry.path)
                    if leads_out and not follow:
                        leaving.append(entry.path)
                    elif entry.is_dir(follow_symlinks=False) or (leads_out and Path(entry.path).is_dir()):
                        below.append(entry.path)
                    elif (stat := _stat(entry)) is not None and S_ISREG(stat.st_mode):
                        name = entry.path[start:]
                        path = readable(name)
                        yield path, None if path == name else os.fsencode(name), stat.st_size, stat.st_mtime_ns
        except OSError as error:
            unread.append(f"{folder} ({error.strerror})")
        below.sort()
        hidden += [path for path in below if HIDDEN.search(path[start:])]
        folders += reversed(links.entered([path for path in below if not HIDDEN.search(path[start:])]))
        if not folders:
            folders, hidden = links.entered(hidden), []
    _refuse(root, leaving, unread)


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    """None for a broken link, or a file that has just been removed."""
    try:
        return entry.stat()
    except OSError as error:
        reraise_machine_fault(error, entry.path)
        return None


def _refuse(root: Path, leaving: list[str], unread: list[str]) -> None:
    problems = []
    if leaving:
        problems.append(
            f"{root}: links lead out of the root, {first_few(sorted(leaving))}; put the files themselves there, "
            "make the root their folder, or allow such links by verify.follow_links: true"
        )
    if unread:
        problems.append(f"{root}: folders cannot be read, {first_few(sorted(unread))}; give this user permission, or remove them")
    if problems:
        raise UserError(*problems)
