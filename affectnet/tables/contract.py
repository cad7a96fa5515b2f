"""Parquet tables with a contract: columns, types, units, ranges and nullability, in one place, checked on each write."""

import json
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
from affectnet.expressions import EXPRESSIONS
from affectnet.files.atomic import replacing

BUFFER = 1 << 20
"""Bytes of a column read at a time."""

PARQUET_OPTIONS: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
"""How tables are written: with the checksums, a bit that the disk flipped is noticed when its page is read."""


@contextmanager
def readable_parquet(path: Path, remedy: str = "run `dvc repro`") -> Iterator[None]:
    """Raises UserError in place of Arrow's errors when the block reads this file and it is missing or broken."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: not there; {remedy}") from None
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        if not isinstance(error, MemoryError):  # broken bytes cause it, too
            reraise_machine_fault(error, path)
        raise UserError(f"{path}: unreadable Parquet: {error}; {remedy}") from None


LABELS_KEY = b"affectnet.labels"
"""In the metadata of a schema: the labels of the codes, as JSON."""


@dataclass(frozen=True)
class Column:
    """One column: `low` and `high` bound numbers (inclusive); `choices` are the allowed strings, if they are few.

    coded: codes of the table's labels, which bound them.
    """

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    nullable: bool = False
    choices: tuple[str, ...] = ()
    coded: bool = False

    @property
    def field(self) -> pa.Field:
        return pa.field(self.name, self.type, nullable=self.nullable)

    def violations(self, values: pa.ChunkedArray | pa.Array, labels: int | None = None) -> list[str]:
        """A line per rule that the values break: `name: rule: count`. labels: how many the table has, where its file says so."""
        lines = []
        if not self.nullable and values.null_count:
            lines.append(f"{self.name}: must not be null: {values.null_count} are")
        high = labels - 1 if self.coded and labels is not None else self.high
        for bound, outside, sign in ((self.low, pc.less, "≥"), (high, pc.greater, "≤")):
            if bound is not None and (bad := pc.sum(outside(values, pa.scalar(bound, self.type))).as_py() or 0):
                lines.append(f"{self.name}: must be {sign} {bound:g}: {bad} are not")
        if self.choices:
            unknown = pc.unique(values).drop_null().to_pylist()
            if bad_names := sorted(set(unknown) - set(self.choices)):
                lines.append(f"{self.name}: must be one of {', '.join(self.choices)}: got {', '.join(bad_names)}")
        return lines


@dataclass(frozen=True)
class Contract:
    """One kind of table: its file, what one row is, and its columns.

    lenient: the file's own schema lets every column be null, which other readers expect; the contract is checked nevertheless;
    remedy: what to do about a file that breaks the contract, for messages.
    """

    title: str
    row: str
    columns: tuple[Column, ...]
    lenient: bool = False
    remedy: str = "run `dvc repro`"

    @property
    def schema(self) -> pa.Schema:
        fields = [column.field for column in self.columns]
        return pa.schema([field.with_nullable(True) for field in fields] if self.lenient else fields)

    def check(self, table: pa.Table | pa.RecordBatch) -> None:
        """Errors: ValueError (a bug) that lists every violation of the contract."""
        if violations := [line for column in self.columns for line in column.violations(table.column(column.name))]:
            raise ValueError(f"{self.title}: " + "; ".join(violations))

    def write(self, path: Path, table: pa.Table, metadata: Mapping[str, str] | None = None) -> None:
        """Casts to the schema, checks, and writes zstd Parquet, completely or not at all. metadata: for the file's schema."""
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
        with self._opened(path) as file, readable_parquet(path, self.remedy):
            return self._check_values(path, file.read(list(columns or self.schema.names), use_threads=True))

    def pieces(self, path: Path, rows: int) -> Iterator[pa.RecordBatch]:
        """The table in batches of at most `rows` rows, never all of it in memory. Errors: as `read`."""
        with self._opened(path) as file:
            batches = file.iter_batches(rows, columns=self.schema.names)
            while True:
                with readable_parquet(path, self.remedy):
                    if (batch := next(batches, None)) is None:
                        return
                    self._check_values(path, pa.Table.from_batches([batch]))
                yield batch

    @contextmanager
    def _opened(self, path: Path) -> Iterator[pq.ParquetFile]:
        """Errors: UserError when the columns or their types are not those of the contract."""
        with readable_parquet(path, self.remedy):
            file = pq.ParquetFile(path, buffer_size=BUFFER, page_checksum_verification=True)
        with file:
            with readable_parquet(path, self.remedy):
                schema = file.schema_arrow
                types = {name: schema.field(name).type for name in schema.names}
            missing = [column.name for column in self.columns if column.name not in types]
            if missing:
                raise UserError(f"{path}: not the table '{self.title}', columns {', '.join(missing)} are missing; {self.remedy}")
            other = [f"{c.name} ({types[c.name]} for {c.type})" for c in self.columns if not types[c.name].equals(c.type)]
            if other:
                raise UserError(f"{path}: not the table '{self.title}', columns of another type: {', '.join(other)}; {self.remedy}")
            yield file

    def _check_values(self, path: Path, table: pa.Table) -> pa.Table:
        """The table. Errors: UserError when its values break the contract."""
        columns = [column for column in self.columns if column.name in table.column_names]
        labels = _label_count(table.schema)
        if violations := [line for column in columns for line in column.violations(table[column.name], labels)]:
            raise UserError(f"{path}: not the table '{self.title}' as it was written, {'; '.join(violations)}; {self.remedy}")
        return table

    def markdown(self) -> str:
        """The contract as a Markdown table, as in docs/data.md."""
        lines = ["| column | type | unit | range | null | meaning |", "|---|---|---|---|---|---|"]
        for c in self.columns:
            null = "yes" if c.nullable else ""
            lines.append(f"| `{c.name}` | {c.type} | {c.unit} | {_range(c)} | {null} | {c.meaning} |")
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

    Batch by batch, since Arrow's own `take` first joins all batches of each nested column, in memory and on each call.
    """
    batches = table.to_batches()
    starts = np.cumsum([0, *map(len, batches)])
    holder = np.searchsorted(starts, at, side="right") - 1
    runs = np.split(np.arange(len(at)), np.flatnonzero(np.diff(holder)) + 1) if len(at) else []
    parts = [batches[holder[run[0]]].take(pa.array(at[run] - starts[holder[run[0]]])) for run in runs]
    return pa.Table.from_batches(parts, table.schema)


def _range(column: Column) -> str:
    """The choices or bounds of a column, for the documents."""
    if column.choices:
        return ", ".join(column.choices)
    bounds = ["" if bound is None else f"{bound:g}" for bound in (column.low, column.high)]
    return " … ".join(bounds).strip(" …") if column.low is not None else ""


def _label_count(schema: pa.Schema) -> int:
    """How many labels the schema names; AffectNet's where it names none."""
    content = (schema.metadata or {}).get(LABELS_KEY)
    return len(EXPRESSIONS) if content is None else len(json.loads(content))
