"""The counts of the reliability tests: outcomes of cases, printed as one table after the tests. docs/reliability.md has the full table."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import pytest

Tally = Callable[..., None]
PROPERTY = "tally"


def add_to(item: pytest.Item) -> Tally:
    """A function (what, outcome, cases=1) that counts for the table, by the properties of the test's report."""

    def add(what: str, outcome: str, cases: int = 1) -> None:
        item.user_properties.append((PROPERTY, (what, outcome, cases)))

    return add


def table(reports: Iterable[pytest.TestReport]) -> list[str]:
    """Lines of a Markdown table: what was tested, the number of cases, and the number per outcome."""
    counts: dict[str, Counter[str]] = {}
    for report in reports:
        for name, value in report.user_properties:
            if name == PROPERTY and isinstance(value, Sequence):
                what, outcome, cases = value
                counts.setdefault(what, Counter())[outcome] += cases
    if not counts:
        return []
    head = ["| what | cases | outcome |", "|---|---|---|"]
    return head + [
        f"| {what} | {outcomes.total():,} | {', '.join(f'{count:,} {outcome}' for outcome, count in sorted(outcomes.items()))} |"
        for what, outcomes in sorted(counts.items())
    ]


def every(cases: Sequence[object], short: int) -> list[object]:
    """All cases for parametrize; `short` of them, evenly spread, run in `make test`, the others only in `make stress`."""
    kept = {round(position * (len(cases) - 1) / max(short - 1, 1)) for position in range(short)}
    return [case if number in kept else pytest.param(case, marks=pytest.mark.stress) for number, case in enumerate(cases)]
