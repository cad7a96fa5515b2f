"""The documents agree with the code and the committed metrics."""

import hashlib
import re
from pathlib import Path
from urllib.parse import urlparse

import pytest
from chain import ROOT, committed
from ruamel.yaml import YAML

from affectnet.reporting.prediction_table import PREDICTIONS
from affectnet.tables.annotations import ANNOTATIONS, REJECTED
from affectnet.tables.contract import Contract
from affectnet.tables.face_shards import FACES
from affectnet.tables.inventory import INVENTORY, STATUSES
from affectnet.tables.label_issues import LABEL_ISSUES
from affectnet.tables.sampling_plan import CLASS_WEIGHTS, PLAN
from stages.clean import CleanParams

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "data" / "README.md",
    *(ROOT / "docs").glob("*.md"),
]


@pytest.mark.parametrize(
    "contract",
    [INVENTORY, ANNOTATIONS, REJECTED, FACES, PLAN, CLASS_WEIGHTS, PREDICTIONS, LABEL_ISSUES],
    ids=lambda contract: contract.title,
)
def test_each_contract_stands_in_the_data_document(contract: Contract) -> None:
    assert f"One row: {contract.row}.\n\n{contract.markdown()}\n" in (ROOT / "docs" / "data.md").read_text()


def test_every_reason_that_clean_gives_and_every_rule_is_described() -> None:
    text, code = (ROOT / "docs" / "data.md").read_text(), (ROOT / "stages" / "clean.py").read_text()
    reasons = set(re.findall(r'\.(?:reject|judge)\([^"\n]*"(\w+)"', code)) | set(STATUSES[1:])
    assert len(reasons) > 12
    assert {reason for reason in reasons if f"`{reason}`" not in text} <= {"null_box"}
    for param in ("null_box", "box_outside", "landmarks", "valence_arousal", "emonet_rules", "exact_duplicates", "label_issues"):
        assert param in CleanParams.model_fields and f"`clean.{param}`" in text


def test_the_committed_metrics_are_those_of_the_committed_lock() -> None:
    stages = YAML(typ="safe").load(committed("dvc.lock"))["stages"]
    outs = [out for stage in stages.values() for out in stage["outs"]]
    metrics = {out["path"]: out["md5"] for out in outs if out["path"].startswith("metrics/") and not out["md5"].endswith(".dir")}
    assert len(metrics) == 20
    for path, digest in metrics.items():
        assert hashlib.md5(committed(path)).hexdigest() == digest, path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        assert urlparse(target).scheme == "https" or (document.parent / target).exists(), target
    for target, anchor in re.findall(r"\]\(([\w./-]*\.md|)#([^)\s]+)\)", document.read_text()):
        other = document.parent / target if target else document
        headings = re.findall(r"^#+ (.+)$", other.read_text(), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert anchor in slugs, f"{target}#{anchor}"


@pytest.mark.parametrize("folder", ["", "benchmarks"])
def test_every_requirement_is_pinned_and_hashed_and_none_has_an_address(folder: str) -> None:
    requirements = (ROOT / folder / "requirements.txt").read_text().replace("\\\n", "").splitlines()
    assert len(requirements) > 50 and "://" not in "".join(requirements)
    for line in requirements:
        assert re.fullmatch(r"[a-z0-9.-]+(\[[a-z0-9,-]+\])?==[\w.+!]+( ; [^#@]+?)?( +--hash=sha256:[0-9a-f]{64})+ *", line), line[:100]


def test_every_dependency_is_among_the_requirements() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    pinned = "".join((ROOT / folder / "requirements.txt").read_text() for folder in ("", "benchmarks"))
    for name in re.findall(r'"([a-z0-9._-]+)(?:\[\w+\])?>=', project.partition("[build-system]")[0]):
        assert re.search(rf"^{name}(\[\w+\])?==", pinned, re.MULTILINE), name
