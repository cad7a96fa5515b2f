"""Broken params, pointers, checksum lists and Parquet files: one line each, or the results of valid ones."""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bounds import MOST_MB, in_time, real_stage
from broken_tables import DAMAGE, POINTERS, SUMS, YAML
from chain import pipeline_folder, run_data_stages, run_stage
from hypothesis import given, settings
from hypothesis import strategies as st
from tally import Tally, every
from trees import tree_2017, tree_folder

from affectnet.errors import UserError, exit_code
from affectnet.files.checksums import read_checksums
from affectnet.models.dataset import load_faces
from affectnet.params import Section, parse, read_document
from affectnet.tables.annotations import ANNOTATIONS
from affectnet.tables.face_shards import FACES, read_policy, shard_paths
from affectnet.tables.inventory import INVENTORY
from affectnet.tables.source_pointer import Pointer
from stages.verify import VerifyParams

__all__ = ["in_time"]
WHAT = "bad params and tables"


def outcome(act: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> str | None:
    """The error lines; None without an error. Errors: AssertionError for a traceback or any other end."""
    code = exit_code(act)
    said = capsys.readouterr().err
    assert (code, bool(said)) in {(0, False), (2, True)} and "Traceback" not in said, said
    assert all(line.startswith("error: ") and len(line) < 1100 for line in said.splitlines())
    return said or None


@pytest.mark.parametrize("what", every(list(YAML), 14))
def test_broken_params_are_one_line_each(workspace: Path, tally: Tally, capsys: pytest.CaptureFixture[str], what: str) -> None:
    change, message = YAML[what]
    text = change(Path("params.yaml").read_text(encoding="utf-8"))
    Path("params.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    sections: list[Section] = []
    said = outcome(lambda: sections.append(parse(read_document(), "verify", VerifyParams)), capsys)
    assert not Path("code_has_run").exists()
    if message is None:
        assert said is None and isinstance(sections[0], VerifyParams) and 0 <= sections[0].tolerance <= 1
    else:
        assert said is not None and message in said and "params.yaml: " in said
    tally(WHAT, "one-line error" if said else "sound after all")


def test_broken_params_end_a_real_process_in_one_line_with_exit_code_2(workspace: Path, tally: Tally) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    for what in ("a bomb of long words", "100,000 dashes"):
        Path("params.yaml").write_text(str(YAML[what].change(text)), encoding="utf-8")
        ended = real_stage("verify")
        assert ended.code == 2 and ended.error.startswith("error: params.yaml: ") and ended.error.count("\n") == 1
        assert ended.peak_mb < MOST_MB
        tally(WHAT, "one-line error")


@pytest.mark.parametrize("what", every(list(POINTERS), 6))
def test_a_broken_pointer_is_one_line(workspace: Path, tally: Tally, capsys: pytest.CaptureFixture[str], what: str) -> None:
    raw = workspace / "data" / "raw"
    tree_2017(raw, 1, 1)
    (raw / "loop").symlink_to("loop")
    (raw / "source.json").write_bytes(POINTERS[what])
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    assert (said := outcome(lambda: run_stage("verify", tolerance=1.0), capsys)) is not None and said.count("\n") == 1
    tally(WHAT, "one-line error")


@pytest.mark.parametrize("what", every(list(SUMS), 4))
def test_a_broken_checksum_list_is_one_line(workspace: Path, tally: Tally, capsys: pytest.CaptureFixture[str], what: str) -> None:
    (workspace / "sums.txt").write_bytes(SUMS[what])
    replace(tree_folder(workspace / "root", 1, 1), checksums=str(workspace / "sums.txt")).write(workspace / "data" / "raw")
    said = outcome(lambda: run_stage("verify", tolerance=1.0), capsys)
    assert said is not None and "sums.txt: " in said
    tally("bad lists", "one-line error")


READERS: dict[str, tuple[str, Callable[[], object]]] = {
    "the inventory of clean": ("data/inventory.parquet", lambda: run_stage("clean")),
    "the inventory of crop": ("data/inventory.parquet", lambda: run_stage("crop")),
    "the annotations of crop": ("data/annotations.parquet", lambda: run_stage("crop")),
    "the annotations of rebalance": ("data/annotations.parquet", lambda: run_stage("rebalance")),
    "a shard of the dataset": ("data/faces/train-00000-of-00001.parquet", lambda: load_faces(Path("data/faces"), "train", 32, 1)),
    "a shard of the policy": ("data/faces/test-00000-of-00001.parquet", lambda: read_policy(Path("data/faces"), "test")),
    "what verify remembers": ("", lambda: run_stage("verify", tolerance=1.0)),
}
"""Reader → the file, and the call; the name of verify's memory depends on the root."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the data stages have run."""
    with pipeline_folder(tmp_path_factory, "finished") as folder:
        pointer = tree_2017(folder / "root", 2, 1)
        for path in (folder / "root").rglob("*"):
            os.utime(path, ns=(10**18, 10**18))
        run_data_stages(pointer)
        load_faces(Path("data/faces"), "train", 32, 1)
    return folder


def results(folder: Path) -> dict[str, bytes]:
    """The finished outputs of the stages."""
    files = sorted(path for pattern in ("*.parquet", "faces/*.parquet") for path in (folder / "data").glob(pattern))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def decoded() -> np.ndarray:
    """The training faces as train sees them."""
    pixels: np.ndarray = load_faces(Path("data/faces"), "train", 32, 1).images.numpy().copy()
    return pixels


@pytest.mark.parametrize("case", every([(who, seed) for who in READERS for seed in range(10)], 7))
def test_damaged_parquet_is_one_line_or_changes_nothing(
    finished: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally, capsys: pytest.CaptureFixture[str], case: tuple[str, int]
) -> None:
    who, seed = case
    monkeypatch.chdir(finished)
    name, read = READERS[who]
    path = Path(name) if name else next(Path(".dvc/tmp/affectnet/verify").glob("*.parquet"))
    before, shown, sound = results(finished), decoded(), path.read_bytes()
    for number, damage in enumerate(DAMAGE.values()):
        shutil.rmtree(".dvc/tmp/affectnet/decoded", ignore_errors=True)
        path.write_bytes(broken := damage(sound, np.random.default_rng([seed, number])))
        try:
            said = outcome(read, capsys)
            after = results(finished)
            assert {**after, name: b""} == {**before, name: b""} or said  # the outputs are those of the valid file
            if said is None and who == "a shard of the dataset":
                assert np.array_equal(decoded(), shown)
            assert said is None or ("run `dvc repro" in said and said.count("\n") == 1), said
            assert broken != sound or said is None
        finally:
            for stored, content in before.items():
                (finished / stored).parent.mkdir(parents=True, exist_ok=True)
                (finished / stored).write_bytes(content)
            path.write_bytes(sound)
        tally(WHAT, "one-line error" if said else "sound after all: same results")


def with_expression(values: Callable[[int], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.set_column(table.column_names.index("expression"), "expression", values(len(table)))


OTHERS: dict[str, Callable[[pa.Table], pa.Table]] = {
    "another type": with_expression(lambda count: pa.array(["Happy"] * count)),
    "a column gone": lambda table: table.drop_columns(["expression"]),
    "codes out of range": with_expression(lambda count: pa.array([9] * count, pa.int8())),
    "nulls": with_expression(lambda count: pa.nulls(count, pa.int8())),
}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("who", ["the annotations of rebalance", "the annotations of crop", "a shard of the dataset"])
def test_a_table_of_other_values_is_one_line(
    finished: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally, capsys: pytest.CaptureFixture[str], who: str, what: str
) -> None:
    monkeypatch.chdir(finished)
    path, read = Path(READERS[who][0]), READERS[who][1]
    sound = path.read_bytes()
    try:
        pq.write_table(OTHERS[what](pq.read_table(path)), path)
        assert (said := outcome(read, capsys)) is not None and str(path) in said and "run `dvc repro" in said
    finally:
        path.write_bytes(sound)
    tally(WHAT, "one-line error")


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(["~", "*a", "&a", "!!int", "1e999"])
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=12
)


@pytest.mark.parametrize("examples", every([50, 1500], 1))
def test_any_text_is_params_or_one_line(workspace: Path, tally: Tally, examples: int) -> None:
    outcomes: Counter[str] = Counter()
    shipped = Path("params.yaml").read_text(encoding="utf-8")
    start = shipped.index("verify:")
    marks = st.sampled_from([*"[]{}:-?!&*|>'\"%@#\n\t, ", "<<: ", "!!timestamp ", "!!binary ", "---\n", "\x00", "\u2028", "verify: "])
    edits = st.lists(st.tuples(st.integers(start - 300, start + 500), marks | st.text(max_size=4)), min_size=1, max_size=4)

    @settings(max_examples=examples)
    @given(edits, VALUES, st.binary(max_size=40))
    def holds(edits: list[tuple[int, str]], value: Any, other: bytes) -> None:
        edited = shipped[start - 300 : start + 500]
        for at, change in edits:
            edited = edited[: at - start + 300] + change + edited[at - start + 300 :]
        texts = (edited.encode("utf-8", "replace"), json.dumps({"verify": value}).encode(), other)
        for text in (*texts, json.dumps({"verify": {"tolerance": value, "follow_links": False}}).encode()):
            Path("params.yaml").write_bytes(text)
            try:
                assert 0 <= parse(read_document(), "verify", VerifyParams).tolerance <= 1
                outcomes["sound after all"] += 1
            except UserError as error:
                assert all(problem.startswith("params.yaml: ") for problem in error.problems)
                outcomes["one-line error"] += 1

    holds()
    for outcome, count in outcomes.items():
        tally(WHAT, outcome, count)


@pytest.mark.parametrize("examples", every([50, 1500], 1))
def test_any_bytes_are_a_pointer_or_one_line(workspace: Path, tally: Tally, examples: int) -> None:
    outcomes: Counter[str] = Counter()
    fields = st.fixed_dictionaries(
        {"layout": VALUES | st.just("folder"), "root": VALUES | st.just(".")},
        optional=dict.fromkeys(("classes", "splits", "lists", "expected", "checksums", "other"), VALUES),
    )

    @settings(max_examples=examples)
    @given(
        fields.map(lambda value: json.dumps(value).encode()) | VALUES.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)
    )
    def holds(content: bytes) -> None:
        Path("source.json").write_bytes(content)
        try:
            assert Path(Pointer.read(Path()).root).is_dir()
            outcomes["sound after all"] += 1
        except UserError as error:
            assert re.match(r"source\.json: (not written by acquire|root )", str(error))
            outcomes["one-line error"] += 1

    holds()
    for outcome, count in outcomes.items():
        tally(WHAT, outcome, count)


@pytest.mark.parametrize("examples", every([50, 1500], 1))
def test_any_bytes_are_a_checksum_list_or_one_line_and_any_name_comes_through(workspace: Path, tally: Tally, examples: int) -> None:
    outcomes: Counter[str] = Counter()
    letters = st.characters(exclude_characters="\0/", exclude_categories=["Cs"])
    names = st.text(letters | st.sampled_from("\\\n\rn"), min_size=1, max_size=8).filter(lambda name: name not in {".", ".."})

    @settings(max_examples=examples)
    @given(names, st.binary(max_size=90))
    def holds(name: str, content: bytes) -> None:
        path = workspace / "sums.txt"
        escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")  # as sha256sum does
        path.write_bytes(f"{'' if escaped == name else chr(92)}{'a' * 64}  {escaped}\n".encode())
        assert read_checksums(path).to_pylist() == [{"path": name, "digest": b"\xaa" * 32}]
        path.write_bytes(content)
        try:
            read_checksums(path)
            outcomes["sound after all"] += 1
        except UserError as error:
            assert "sums.txt: " in str(error)
            outcomes["one-line error"] += 1

    holds()
    for outcome, count in outcomes.items():
        tally("bad lists", outcome, count)


@pytest.mark.parametrize("examples", every([50, 1500], 1))
def test_any_damage_to_a_table_is_one_line_or_leaves_a_table_of_the_contract(
    finished: Path, tmp_path: Path, tally: Tally, examples: int
) -> None:
    outcomes: Counter[str] = Counter()
    tables = {
        INVENTORY: (finished / "data/inventory.parquet").read_bytes(),
        ANNOTATIONS: (finished / "data/annotations.parquet").read_bytes(),
        FACES: shard_paths(finished / "data/faces", "test")[0].read_bytes(),
    }
    flips = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4)
    sound = {contract: pq.read_table(pa.BufferReader(content)) for contract, content in tables.items()}

    @settings(max_examples=examples)
    @given(st.sampled_from(list(tables)), flips, st.booleans())
    def holds(contract: Any, flips: list[tuple[float, int]], footer: bool) -> None:
        content = bytearray(tables[contract])
        first = len(content) - 2000 if footer else 0
        for offset, change in flips:
            content[first + int(offset * (len(content) - first))] ^= change
        path = tmp_path / "table.parquet"
        path.write_bytes(content)
        try:
            table = contract.read(path)
            contract.check(table)
            outcomes["sound after all: same table" if table.equals(sound[contract]) else "sound after all: within its contract"] += 1
        except UserError as error:
            assert "run `dvc repro" in str(error)
            outcomes["one-line error"] += 1

    holds()
    for what, count in outcomes.items():
        tally(WHAT, what, count)
