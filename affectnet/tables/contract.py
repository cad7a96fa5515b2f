"""Parquet tables with a contract: columns, types, units, ranges and nullability, in one place, checked on each write."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from affectnet.errors import UserError, reraise_machine_fault
from affectnet.files.atomic import replacing

BUFFER = 1 << 20
"""Bytes of a column that are read at a time."""

PARQUET_OPTIONS: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
"""How tables are written: a bit that a disk has turned is found when its page is read."""


@contextmanager
def readable_parquet(path: Path, remedy: str = "run `dvc repro`") -> Iterator[None]:
    """The block reads from this file. Errors: UserError in place of whatever Arrow raises over a file that is missing or broken."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: not there; {remedy}") from None
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if not isinstance(error, MemoryError):  # which broken bytes cause, too
            reraise_machine_fault(error, path)
        raise UserError(f"{path}: no readable Parquet: {error}; {remedy}") from None


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
    """One kind of table: its file, what one row is, and its columns.

    lenient: the file's own schema lets every column be null, as readers expect that know no other; the contract is checked all the same.
    """

    title: str
    row: str
    columns: tuple[Column, ...]
    lenient: bool = False

    @property
    def schema(self) -> pa.Schema:
        fields = [column.field for column in self.columns]
        return pa.schema([field.with_nullable(True) for field in fields] if self.lenient else fields)

    def check(self, table: pa.Table | pa.RecordBatch) -> None:
        """Errors: ValueError (a bug of ours) that lists every violation of the contract."""
        found = [line for column in self.columns for line in column.violations(table.column(column.name))]
        if found:
            raise ValueError(f"{self.title}: " + "; ".join(found))

    def write(self, path: Path, table: pa.Table, metadata: Mapping[str, str] | None = None) -> None:
        """Casts to the schema, checks, and writes zstd Parquet; the file appears whole or not at all. metadata: of the file's schema."""
        with self.writer(path, metadata) as writer:
            writer.write(table)

    @contextmanager
    def writer(self, path: Path, metadata: Mapping[str, str] | None = None) -> Iterator["CheckedWriter"]:
        """For tables larger than memory: each piece written is cast and checked; the file appears when the block ends."""
        schema = self.schema.with_metadata(metadata)
        with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, **PARQUET_OPTIONS) as writer:
            yield CheckedWriter(self, writer)

    def read(self, path: Path, columns: Sequence[str] | None = None) -> pa.Table:
        """The table, or only the named columns. Errors: UserError when the file is missing or not of this contract."""
        with self._opened(path) as file, readable_parquet(path):
            return self._vouched(path, file.read(list(columns or self.schema.names), use_threads=True))

    def pieces(self, path: Path, rows: int) -> Iterator[pa.RecordBatch]:
        """The table, so many rows at a time, never all of it in memory. Errors: as `read`."""
        with self._opened(path) as file:
            batches = file.iter_batches(rows, columns=self.schema.names)
            while True:
                with readable_parquet(path):
                    if (batch := next(batches, None)) is None:
                        return
                    self._vouched(path, pa.Table.from_batches([batch]))
                yield batch

    @contextmanager
    def _opened(self, path: Path) -> Iterator[pq.ParquetFile]:
        """Errors: UserError when the columns or their types are not those of the contract."""
        with readable_parquet(path):
            file = pq.ParquetFile(path, buffer_size=BUFFER, page_checksum_verification=True)
        with file:
            with readable_parquet(path):
                found = file.schema_arrow
                types = {name: found.field(name).type for name in found.names}
            lacking = [column.name for column in self.columns if column.name not in types]
            if lacking:
                raise UserError(f"{path}: not the table '{self.title}', columns {', '.join(lacking)} are missing; run `dvc repro`")
            other = [f"{c.name} ({types[c.name]} for {c.type})" for c in self.columns if not types[c.name].equals(c.type)]
            if other:
                raise UserError(f"{path}: not the table '{self.title}', columns of another type: {', '.join(other)}; run `dvc repro`")
            yield file

    def _vouched(self, path: Path, table: pa.Table) -> pa.Table:
        """The table, if its values are within the contract."""
        found = [line for column in self.columns if column.name in table.column_names for line in column.violations(table[column.name])]
        if found:
            raise UserError(f"{path}: not the table '{self.title}' as it was written, {'; '.join(found)}; run `dvc repro`")
        return table

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
