from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectnet.errors import UserError
from affectnet.tables.contract import Column, Contract, take_rows

CONTRACT = Contract(
    "things",
    "one thing",
    (
        Column("name", pa.string(), "its name", choices=("a", "b")),
        Column("share", pa.float32(), "its share", low=0, high=1, nullable=True),
    ),
)


def test_what_is_written_is_read_back_and_its_columns_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "things.parquet"
    CONTRACT.write(path, pa.table({"share": [0.5, None], "name": ["a", "b"]}))
    assert CONTRACT.read(path).to_pydict() == {"name": ["a", "b"], "share": [0.5, None]}
    assert CONTRACT.read(path, ["share"]).column_names == ["share"]


def test_every_violation_is_reported_and_no_file_appears(tmp_path: Path) -> None:
    path = tmp_path / "things.parquet"
    with pytest.raises(ValueError, match=r"name: must be one of a, b: got c.*share: must be ≥ 0: 1 are not.*≤ 1: 1 are not"):
        CONTRACT.write(path, pa.table({"name": ["a", "c", "b"], "share": [-1.0, 2.0, None]}))
    assert list(tmp_path.iterdir()) == []


def test_null_where_none_may_be_is_a_violation() -> None:
    with pytest.raises(ValueError, match="name: must not be null: 1 are"):
        CONTRACT.check(pa.table({"name": pa.array(["a", None]), "share": pa.array([0.1, 0.2], pa.float32())}))


@pytest.mark.parametrize("content", [None, b"", b"no parquet at all"])
def test_a_file_that_is_missing_or_broken_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "things.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="run `dvc repro`"):
        CONTRACT.read(path)


def test_a_table_of_another_contract_names_the_missing_columns(tmp_path: Path) -> None:
    path = tmp_path / "things.parquet"
    Contract("others", "one", (Column("name", pa.string(), ""),)).write(path, pa.table({"name": ["a"]}))
    with pytest.raises(UserError, match="columns share are missing"):
        CONTRACT.read(path)


def test_markdown_shows_each_column_with_its_range() -> None:
    assert "| `share` | float |  | 0 … 1 | yes | its share |" in CONTRACT.markdown()
    assert "| `name` | string |  | a, b |  | its name |" in CONTRACT.markdown()


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=5), data=st.data())
def test_rows_are_taken_over_batches_as_from_one(lengths: list[int], data: st.DataObject) -> None:
    number, batches = iter(range(100)), []
    for length in lengths:
        rows = [{"n": next(number), "list": [1.0, 2.0]} for _ in range(length)]
        batches.append(pa.RecordBatch.from_pylist(rows, pa.schema([("n", pa.int64()), ("list", pa.list_(pa.float32(), 2))])))
    table = pa.Table.from_batches(batches)
    at = np.array(data.draw(st.lists(st.integers(0, len(table) - 1)) if len(table) else st.just([])), np.intp)
    assert take_rows(table, at).equals(table.combine_chunks().take(pa.array(at, pa.int64())))
