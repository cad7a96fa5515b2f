"""The audit of the labels, and what `clean` makes of it."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from audits import write_audit
from chain import ROOT, TINY, annotations, local, metrics, refused, rejected, run_data_stages, run_stage
from pages import Page
from trees import tree_plus

from affectnet.cleaning.va_rules import contradicts
from affectnet.expressions import CODES, EXPRESSIONS
from affectnet.params import parse, read_document
from affectnet.search.audit import audit as module
from affectnet.search.audit.audit import AuditParams, CleanParams, audit
from affectnet.search.audit.folds import FoldParams
from affectnet.tables.label_issues import LABEL_ISSUES
from affectnet.tables.labels import labels_metadata

ISSUES = Path("data/label_issues.parquet")


def run_audit(folds: int = 2, confidence: float = 1.0, **changes: Any) -> str:
    """The audit with the smallest network; returns its summary line. changes: of section `train`."""
    document = read_document()
    document["model"], document["models"]["tiny"] = "tiny", {**TINY, "epochs": 1}
    document["train"].update(changes)
    params = AuditParams(folds=folds, seed=29, examples=2)
    return audit(params, CleanParams(label_confidence=confidence), parse(document, "train", FoldParams), local())


@pytest.fixture
def audited(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "TEMPLATE", ROOT / "stages" / "templates" / "audit.html")
    run_audit()
    return prepared


def test_every_training_face_is_judged_once_and_a_second_run_gives_the_same_bytes(
    audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = LABEL_ISSUES.read(ISSUES).to_pylist()
    train = {(row["list"], row["row"]): row for row in annotations() if row["split"] == "train"}
    assert {(row["list"], row["row"]): row["label"] for row in table} == {key: row["expression"] for key, row in train.items()}
    assert [row["rank"] for row in table] == list(range(1, len(train) + 1)) and {row["fold"] for row in table} == {0, 1}
    counts = metrics("audit")
    issues = [row for row in table if row["is_issue"]]
    assert counts["faces"] == len(train) and counts["issues"] == len(issues)
    for label, by_suggestion in counts["pairs"].items():
        for suggested, count in by_suggestion.items():
            assert count == sum((row["label"], row["suggested"]) == (CODES[label], CODES[suggested]) for row in issues)
    assert counts["issues"] == sum(sum(by_suggestion.values()) for by_suggestion in counts["pairs"].values())
    written = [path.read_bytes() for path in (ISSUES, Path("data/audit.html"), Path("metrics/audit.json"))]
    capsys.readouterr()
    run_audit()
    assert capsys.readouterr().err.count("as computed before") == 2
    assert [path.read_bytes() for path in (ISSUES, Path("data/audit.html"), Path("metrics/audit.json"))] == written


def test_the_summary_counts_the_issues_that_clean_would_use(audited: Path) -> None:
    first, second, *_ = sorted(row["confidence"] for row in LABEL_ISSUES.read(ISSUES).to_pylist() if row["is_issue"])
    said = run_audit(confidence=(first + second) / 2)
    assert first < second and "reject` trains without 1 of them, those of at most clean.label_confidence" in said


def test_the_page_shows_the_doubtful_faces_and_asks_for_nothing(audited: Path) -> None:
    page = Page(Path("data/audit.html"))
    issues = [row for row in LABEL_ISSUES.read(ISSUES).to_pylist() if row["is_issue"]]
    pairs = {(row["label"], row["suggested"]) for row in issues}
    shown = [attributes for tag, attributes in page.tags if tag == "img"]
    counts = [sum((row["label"], row["suggested"]) == pair for row in issues) for pair in pairs]
    assert len(shown) == sum(min(2, count) for count in counts) and issues
    assert all(str(attributes["src"]).startswith("data:image/jpeg;base64,") for attributes in shown)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert not re.search(r"url\(|@import|https?:", Path("data/audit.html").read_text().replace("http://www.w3.org/2000/svg", ""))
    assert f"{len(issues)} of {metrics('audit')['faces']} training labels" in "".join(page.texts)


def doubt(change: Callable[[dict[str, Any]], None] = lambda _: None) -> list[dict[str, Any]]:
    """Rewrites the audit: only the first Happy and the first Sad face are issues, suggested Neutral; returns these two."""
    rows = LABEL_ISSUES.read(ISSUES).to_pylist()
    chosen = [next(row for row in rows if row["label"] == CODES[name]) for name in ("Happy", "Sad")]
    for row in rows:
        row["is_issue"] = row in chosen
        row["confidence"] = 0.4 if row["label"] == CODES["Sad"] else 0.1
        row["suggested"] = CODES["Neutral"] if row["is_issue"] else row["label"]
        change(row)
    LABEL_ISSUES.write(ISSUES, pa.Table.from_pylist(rows), labels_metadata(EXPRESSIONS))
    return chosen


def clean(choice: str, **changes: Any) -> dict[str, Any]:
    """Runs fingerprint and clean as after an edit of params.yaml; returns metrics/clean.json."""
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(re.sub(r"(label_issues:) \w+", rf"\1 {choice}", text))
    run_stage("fingerprint")
    run_stage("clean", **{"validation_share": 0.25, "label_confidence": 1.0, **changes})
    return metrics("clean")


def of_split(split: str) -> dict[tuple[str, int], int]:
    return {(row["list"], row["row"]): row["expression"] for row in annotations() if row["split"] == split}


def test_doubtful_faces_are_rejected_or_relabelled_only_in_training(audited: Path) -> None:
    kept, before = clean("keep"), Path("data/annotations.parquet").read_bytes()
    train, validation, test = (of_split(split) for split in ("train", "validation", "test"))
    issues = [(row["list"], row["row"]) for row in doubt()]
    assert clean("keep") == kept and "label_issues" not in kept and Path("data/annotations.parquet").read_bytes() == before
    counts = clean("reject")
    assert counts["label_issues"] == {"doubtful": 2, "not_in_train": 0, "not_audited": 0, "rejected": 2}
    assert counts["rejected_by"]["label_issue"] == 2 and counts["kept"] == kept["kept"] - 2
    assert of_split("train") == {key: code for key, code in train.items() if key not in issues}
    assert (of_split("validation"), of_split("test")) == (validation, test)
    assert {key for key, reason in rejected().items() if reason == "label_issue"} == {(Path(name).name, row) for name, row in issues}
    assert clean("reject", label_confidence=0.2)["label_issues"]["rejected"] == 1
    counts = clean("relabel")
    assert counts["label_issues"] == {"doubtful": 2, "not_in_train": 0, "not_audited": 0, "relabelled": 2, "rejected": 0}
    assert of_split("train") == {key: CODES["Neutral"] if key in issues else code for key, code in train.items()}
    assert (of_split("validation"), of_split("test")) == (validation, test)
    clean("keep")
    assert Path("data/annotations.parquet").read_bytes() == before


def test_a_relabelled_face_obeys_emonets_rules(audited: Path) -> None:
    clean("keep", emonet_rules=True)
    doubt()
    counts = clean("relabel", emonet_rules=True)
    train = [row for row in annotations() if row["split"] == "train"]
    expression, valence, arousal = (np.array([row[name] for row in train], float) for name in ("expression", "valence", "arousal"))
    assert not contradicts(expression.astype(int), valence, arousal).any()
    assert counts["label_issues"]["rejected"] == 2 and counts["label_issues"]["relabelled"] == 0


def test_a_relabelled_face_loses_the_soft_label_of_the_old_label(workspace: Path, tmp_path: Path) -> None:
    run_data_stages(tree_plus(tmp_path / "plus"), clean={"validation_share": 0.25})
    before = [row for row in annotations() if row["split"] == "train"]
    write_audit(workspace, 2)
    counts = clean("relabel")
    after = [row for row in annotations() if row["split"] == "train"]
    changed = [row["soft_label"] for old, row in zip(before, after, strict=True) if row["expression"] != old["expression"]]
    assert changed == [None, None] and counts["without_soft_label"] == 2
    assert [row for row, old in zip(after, before, strict=True) if row["expression"] == old["expression"]] == before[2:]


def test_what_an_audit_cannot_reach_is_counted(audited: Path) -> None:
    doubt()
    without = clean("relabel", expressions=[name for name in EXPRESSIONS if name != "Neutral"])
    assert without["label_issues"]["relabelled"] == 0 and without["label_issues"]["rejected"] <= 2
    assert without["rejected_by"]["expression_left_out"] >= without["label_issues"]["rejected"] + 8
    another = clean("reject", seed=6)["label_issues"]
    assert another["rejected"] + another["not_in_train"] == 2 and another["not_audited"] > 0


def written(change: Callable[[pa.Table], pa.Table]) -> Callable[[], None]:
    return lambda: pq.write_table(change(pq.read_table(ISSUES)), ISSUES)


def column(table: pa.Table, name: str, values: Any) -> pa.Table:
    at = table.column_names.index(name)
    return table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type))


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "none": (ISSUES.unlink, "not there; run `make audit` again"),
    "other bytes": (lambda: ISSUES.write_bytes(b"PAR1"), "unreadable Parquet: .*; run `make audit` again"),
    "no column": (written(lambda table: table.drop_columns(["suggested"])), "columns suggested are missing; run `make audit`"),
    "another type": (
        written(lambda table: table.set_column(table.column_names.index("rank"), "rank", pc.cast(table["rank"], pa.string()))),
        "columns of another type: rank",
    ),
    "an expression that does not exist": (
        written(lambda table: column(table, "suggested", [9] * len(table))),
        r"suggested: must be ≤ 7: \d+ are not; run `make audit`",
    ),
    "a negative code": (written(lambda table: column(table, "suggested", [-1] * len(table))), r"suggested: must be ≥ 0: \d+ are not"),
    "labels of another data set": (
        written(lambda table: table.replace_schema_metadata(labels_metadata([f"mood {number}" for number in range(8)]))),
        "an audit of the labels mood 0, mood 1, .*, the data have Neutral, Happy",
    ),
    "NaN": (written(lambda table: column(table, "confidence", [float("nan")] * len(table))), r"confidence: NaN in \d+ rows; run"),
    "other photographs": (
        written(lambda table: column(table, "image", [f"elsewhere/{number}.jpg" for number in range(len(table))])),
        r"an audit of other data, (\d+) of its \1 faces are not in the lists with this label",
    ),
    "other labels": (
        written(lambda table: column(table, "label", np.roll(table["label"].to_numpy(), 1))),
        "an audit of other data",
    ),
    "other lists": (written(lambda table: column(table, "list", ["other.csv"] * len(table))), "an audit of other data"),
    "a face twice": (written(lambda table: pa.concat_tables([table, table[:1]])), "1 faces stand there twice"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_an_audit_that_does_not_fit_is_one_line(audited: Path, name: str) -> None:
    make, message = MISTAKES[name]
    make()
    with refused(f"{ISSUES}: .*{message}"):
        clean("reject")


def test_an_audit_that_fingerprint_did_not_see_is_one_line(audited: Path) -> None:
    clean("reject")
    doubt()
    with refused("label_issues.parquet: not the file that fingerprint recorded; run `dvc repro`"):
        run_stage("clean")


def test_an_audit_of_audited_data_or_of_no_expressions_is_one_line(audited: Path) -> None:
    doubt()
    clean("reject")
    with refused(r"clean\.label_issues: the training split was made by an earlier audit, .*; set it to keep and run `make audit` again"):
        run_audit()
    document = read_document()
    document["task"] = "affect"
    with refused("task: the network learns no expression"):
        audit(AuditParams(folds=2, seed=29, examples=2), CleanParams(label_confidence=1.0), parse(document, "train", FoldParams), local())
    Path("metrics/clean.json").unlink()
    with refused("metrics/clean.json: missing; run `dvc repro`"):
        run_audit()


def test_more_folds_than_faces_are_one_line(audited: Path) -> None:
    with refused(
        r"^audit\.folds: 50 folds of 48 training faces, 48 groups of near duplicates, at most 6 faces of one expression; choose 6"
    ):
        run_audit(folds=50)


def test_an_interrupted_audit_continues_after_its_last_fold(
    audited: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = ISSUES.read_bytes()
    (kept,) = Path(".dvc/tmp/affectnet/audit").glob("*/fold-1.npy")
    kept.write_bytes(kept.read_bytes()[:-4])  # as a disk that filled up would leave it
    run_audit()
    said = capsys.readouterr().err
    assert "fold 1 of 2: as computed before" in said and re.search(r"fold 2 of 2: \d\.\d+ of its 24 labels", said)
    assert ISSUES.read_bytes() == before
