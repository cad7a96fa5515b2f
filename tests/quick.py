"""Which test files `make quick` runs: those without torch, DVC, pages, searches and clusters."""

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent

SLOW = {"clones", "dvc", "dvclive", "distributed", "optuna", "playwright", "torch"}
"""Modules of tests that take their time: DVC in clones, clusters, pages, searches and networks."""


WHOLE_RUNS = {"test_messages.py"}
"""Files that run several stages per case, in addition to the folders `strangers` and `stress`."""

IMPORT = re.compile(r"^ *(?:from (\S+) import (?:\(([^)]*)\)|(.+))|import (\S+))", re.MULTILINE)


@cache
def imported(path: Path) -> frozenset[str]:
    """Dotted names that a file imports, anywhere in it; `from a import b` gives `a` and `a.b`. (ast takes ten times as long.)"""
    names: set[str] = set()
    for module, several, line, plain in IMPORT.findall(path.read_text(encoding="utf-8")):
        names |= {module or plain, *(f"{module}.{member.strip()}" for member in (several or line).split(",") if module)}
    return frozenset(names)


def is_quick(test: Path) -> bool:
    """Whether the file imports nothing of SLOW, directly or through the tests' helpers and this project's modules.

    Whole runs of several stages are not quick either.
    """
    if test.parent.name in {"strangers", "stress"} or test.name in WHOLE_RUNS:
        return False
    seen, todo = set(), [test]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        names = imported(path)
        if SLOW & {*names, *(name.split(".")[0] for name in names)}:
            return False
        stems = [folder.joinpath(*name.split(".")) for name in names for folder in (ROOT, ROOT / "tests")]
        todo += [stem.with_suffix(".py") for stem in stems if stem.with_suffix(".py").is_file()]
    return True
