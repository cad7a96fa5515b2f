"""The words of code, documents and messages are the field's."""

import ast
import re
import subprocess

import pytest
from chain import ROOT

BANNED = re.compile(r"\b(is no number|of no use|anew|beside|alone|told|whoever|shall|lest|let go of)\b", re.IGNORECASE)
"""Words that stop a reader: NaN, unusable, again, next to, only, logged and "each caller that" say the same."""

NAMES = {"found", "given", "wanted", "told", "own", "beside", "place"}
"""Names that do not say what a variable holds."""

HISTORY = {"docs/log.md", "CHANGELOG.md", "page/licences.txt", "tests/test_language.py"}
"""Quotes of earlier texts and of licences, and this list."""

TEXTS = (".py", ".md", ".yaml", ".toml", ".html", ".txt", "Makefile", ".ci/run")


def tracked() -> list[str]:
    """The files of the repository that people write."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    generated = ("metrics/", ".dvc/plots/page.html", "requirements.txt", "benchmarks/requirements.txt")
    return [file for file in files if file.endswith(TEXTS) and file not in HISTORY and not file.startswith(generated)]


def test_no_word_stops_a_reader() -> None:
    lines = [(file, number, line) for file in tracked() for number, line in enumerate((ROOT / file).read_text().splitlines(), 1)]
    assert len(lines) > 10_000
    assert [f"{file}:{number}: {line.strip()}" for file, number, line in lines if BANNED.search(line)] == []


@pytest.mark.parametrize("folder", ["affectnet", "stages", "tests", "tools", "benchmarks"])
def test_a_name_says_what_it_holds(folder: str) -> None:
    problems = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = (
                node.id if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else node.arg if isinstance(node, ast.arg) else ""
            )
            if name in NAMES:
                problems.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}")  # type: ignore[attr-defined]
    assert problems == []
