"""Parquet tables with a contract: columns, types, units, ranges and nullability, in one place, checked on each write."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from affectnet.atomic import replacing
from affectnet.errors import UserError


@dataclass(frozen=True)
class Column:
    """One column: `low` and `high` bound numbers (inclusive); `choices` are the allowed strings, if they are few."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    nullable: bool = False
    choices: tuple[str, ...] = ()

    @property
    def field(self) -> pa.Field:
        return pa.field(self.name, self.type, nullable=self.nullable)

    def violations(self, values: pa.ChunkedArray | pa.Array) -> list[str]:
        """What is wrong with the values, each as `name: rule: count`."""
        found = []
        if not self.nullable and values.null_count:
            found.append(f"{self.name}: must not be null: {values.null_count} are")
        for bound, outside, sign in ((self.low, pc.less, "≥"), (self.high, pc.greater, "≤")):
            if bound is not None and (bad := pc.sum(outside(values, pa.scalar(bound, self.type))).as_py() or 0):
                found.append(f"{self.name}: must be {sign} {bound:g}: {bad} are not")
        if self.choices:
            unknown = pc.unique(values).drop_null().to_pylist()
            if bad_names := sorted(set(unknown) - set(self.choices)):
                found.append(f"{self.name}: must be one of {', '.join(self.choices)}: got {', '.join(bad_names)}")
        return found


@dataclass(frozen=True)
class Contract:
    """One kind of table: its file, what one row is, and its columns."""

    title: str
    row: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([column.field for column in self.columns])

    def check(self, table: pa.Table | pa.RecordBatch) -> None:
        """Errors: ValueError (a bug of ours) that lists every violation of the contract."""
        found = [line for column in self.columns for line in column.violations(table.column(column.name))]
        if found:
            raise ValueError(f"{self.title}: " + "; ".join(found))

    def write(self, path: Path, table: pa.Table) -> None:
        """Casts to the schema, checks, and writes zstd Parquet; the file appears whole or not at all."""
        with self.writer(path) as writer:
            writer.write(table)

    @contextmanager
    def writer(self, path: Path) -> Iterator["CheckedWriter"]:
        """For tables larger than memory: each piece written is cast and checked; the file appears when the block ends."""
        with replacing(path) as temporary, pq.ParquetWriter(temporary, self.schema, compression="zstd") as writer:
            yield CheckedWriter(self, writer)

    def read(self, path: Path, columns: Sequence[str] | None = None) -> pa.Table:
        """The table, or only the named columns. Errors: UserError when the file is missing or not of this contract."""
        try:
            found = pq.read_schema(path)
            lacking = [column.name for column in self.columns if column.name not in found.names]
            if not lacking:
                return pq.read_table(path, columns=list(columns or self.schema.names))
        except FileNotFoundError:
            raise UserError(f"{path}: not there; run `dvc repro`") from None
        except pa.ArrowException as error:
            raise UserError(f"{path}: no readable Parquet: {error}; run `dvc repro`") from None
        raise UserError(f"{path}: not the table '{self.title}', columns {', '.join(lacking)} are missing; run `dvc repro`")

    def markdown(self) -> str:
        """The contract as a Markdown table, as it stands in docs/data.md."""
        lines = ["| column | type | unit | range | null | meaning |", "|---|---|---|---|---|---|"]
        for c in self.columns:
            bounds = ", ".join(c.choices) if c.choices else f"{_bound(c.low)} … {_bound(c.high)}".strip(" …") if c.low is not None else ""
            lines.append(f"| `{c.name}` | {c.type} | {c.unit} | {bounds} | {'yes' if c.nullable else ''} | {c.meaning} |")
        return "\n".join(lines)


class CheckedWriter:
    """Writes pieces of one table, each checked against the contract."""

    def __init__(self, contract: Contract, writer: pq.ParquetWriter) -> None:
        self._contract, self._writer = contract, writer

    def write(self, piece: pa.Table) -> None:
        piece = piece.select(self._contract.schema.names).cast(self._contract.schema)
        self._contract.check(piece)
        self._writer.write_table(piece)


def take_rows(table: pa.Table, at: NDArray[np.intp]) -> pa.Table:
    """The rows at these positions, in their order.

    Batch by batch: Arrow's own take would first join all batches of each nested column, in memory and for each call.
    """
    batches = table.to_batches()
    starts = np.cumsum([0, *map(len, batches)])
    holder = np.searchsorted(starts, at, side="right") - 1
    runs = np.split(np.arange(len(at)), np.flatnonzero(np.diff(holder)) + 1) if len(at) else []
    parts = [batches[holder[run[0]]].take(pa.array(at[run] - starts[holder[run[0]]])) for run in runs]
    return pa.Table.from_batches(parts, table.schema)


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
