"""Broken annotations: lines and files of the CSV lists, npy and JSON files, and code that must not run."""

import gzip
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from trees import HEADER, LANDMARKS, row

NEIGHBOUR = "1/neighbour.jpg"
"""The photograph of the broken line; the photograph is valid."""

NUMBERS = {
    "NaN": "malformed", "nan": "malformed", "inf": "malformed", "-Infinity": "malformed", "1e309": "malformed", "1e9999": "malformed",
    "1e39": "malformed", "-1e30": "malformed", "0x10": "malformed", "١٢": "malformed", "１": "malformed", "²": "malformed",
    "1_0": "malformed", "1,5": "malformed", "": "malformed", " ": "malformed", "null": "malformed", "--1": "malformed", "1e": "malformed",
    "\0": "malformed", "1\0": "malformed", "\u200b1": "malformed", "1 0": "malformed", "½": "malformed", "True": "malformed",
    "1/0": "malformed", "=1+1": "malformed", "1.2.3": "malformed", "9" * 400: "malformed", "1" * 70_000: "malformed",
}  # fmt: skip
"""A cell in place of a number → the reason of the rejection."""

COLUMNS = ("face_x", "face_height", "expression", "valence", "arousal")
OTHERWISE = {("face_x", "null"): "null_box"}
"""Cells whose rejection depends on the column."""


def line(column: str, cell: str) -> str:
    """A valid line except for one cell."""
    cells = dict(zip(HEADER.split(","), row(NEIGHBOUR).split(","), strict=True))
    return ",".join({**cells, column: cell}.values())


LINES: dict[str, tuple[str, str | None]] = {
    **{
        f"{column} {cell[:12]!r} of {len(cell)}": (line(column, cell), OTHERWISE.get((column, cell), reason))
        for cell, reason in NUMBERS.items()
        for column in COLUMNS
    },
    "expression 70000": (line("expression", "70000"), "malformed"),
    "expression -40000": (line("expression", "-40000"), "malformed"),
    "expression 2147483647": (line("expression", "2147483647"), "malformed"),
    "expression 1.5": (line("expression", "1.5"), "malformed"),
    "expression 32767": (line("expression", "32767"), "expression_unknown"),
    "expression -1": (line("expression", "-1"), "expression_unknown"),
    "expression in quotes": (line("expression", '"0"'), None),
    "expression with a sign and a fraction": (line("expression", "+0.0e0"), None),
    "box of negative size": (row(NEIGHBOUR, box="50,50,-30,-30"), "box_empty"),
    "box of no size": (row(NEIGHBOUR, box="50,50,0,0"), "box_empty"),
    "box of half a px": (row(NEIGHBOUR, box="50,50,0.5,70"), "box_empty"),
    "box far to the right": (row(NEIGHBOUR, box="1e29,0,70,70"), "box_empty"),  # too far away for float32 to hold 70 px
    "box far to the left": (row(NEIGHBOUR, box="-5000,0,70,70"), "box_beyond"),
    "box larger than the world": (row(NEIGHBOUR, box="-1e20,-1e20,9e29,9e29"), None),
    "box of four nulls": (row(NEIGHBOUR, box="NULL,NULL,NULL,NULL"), "null_box"),
    "box of five": (row(NEIGHBOUR, box="10,10,70,70,70"), "malformed"),
    "an empty line of commas": ("," * 8, "malformed"),
    "a single word": ("nothing", "malformed"),
    "a million commas": ("," * 1_000_000, "malformed"),
    "an unclosed quote": (f'"{row(NEIGHBOUR)}', None),
    "quotes within": (line("valence", '0""'), None),
    "another header": (HEADER, "malformed"),
    "a comment": ("# about", "malformed"),
    "semicolons for commas": (row(NEIGHBOUR).replace(",", ";"), "malformed"),
    "tabs for commas": (row(NEIGHBOUR).replace(",", "\t"), "malformed"),
    "a formula": (line("subDirectory_filePath", "=cmd|'/c calc'!A0"), "missing"),
    "valence 1e29": (line("valence", "1e29"), "dropped"),
    "valence -1.0000001": (line("valence", "-1.001"), "dropped"),
    **{
        f"landmarks: {what}": (row(NEIGHBOUR, landmarks=cell), reason)
        for what, cell, reason in (
            ("135 numbers", LANDMARKS.rpartition(";")[0], "dropped"),
            ("137 numbers", LANDMARKS + ";1", "dropped"),
            ("a doubled ';'", LANDMARKS.replace(";", ";;", 1), "dropped"),
            ("135 ';'", ";" * 135, "dropped"),
            ("a million ';'", ";" * 1_000_000, "absent"),
            ("a final ';'", LANDMARKS + ";", None),
            ("inf", LANDMARKS.replace("10.00", "inf", 1), "dropped"),
            ("1e39", LANDMARKS.replace("10.00", "1e39", 1), "dropped"),
            ("1e38", LANDMARKS.replace("10.00", "1e38", 1), "dropped"),
            ("-1e29", LANDMARKS.replace("10.00", "-1e29", 1), None),
            ("a letter", LANDMARKS.replace("10.00", "x", 1), "dropped"),
            ("Arabic digits", LANDMARKS.replace("10.00", "١٠", 1), "dropped"),
            ("NUL", LANDMARKS.replace("10.00", "\0", 1), "dropped"),
            ("spaces", " " * 500, "absent"),
            ("one hundred thousand numbers", "1;" * 100_000, "dropped"),
        )
    },
}  # fmt: skip
"""Fault → a line, and the reason of its rejection; `dropped` and `absent`: kept without the broken value; None: valid."""

PATHS: dict[str, tuple[str, str]] = {
    "nothing": ("", "missing"),
    "spaces": ("   ", "missing"),
    "a dot": (".", "missing"),
    "a folder": ("1", "missing"),
    "a folder with a slash": ("1/", "missing"),
    "a name of 300 bytes": ("1/" + "a" * 300 + ".jpg", "missing"),
    "a path of 5,000 bytes": ("1/" + "a/" * 2500, "missing"),
    "a path of 2,000,000 bytes": ("1/" + "a" * 2_000_000, "missing"),
    "a detour": ("1/./neighbour.jpg", "missing"),
    "two slashes": ("1//neighbour.jpg", "missing"),
    "a home": ("~/x.jpg", "missing"),
    "an address": ("http://example.org/x.jpg", "missing"),
    "a drive": ("C:\\x.jpg", "missing"),
    "escaped dots": ("%2e%2e/%2e%2e/x.jpg", "missing"),
    "three dots": (".../x.jpg", "missing"),
    "a name that turns round": ("1/\u202egpj.x", "missing"),
    "climbing": ("../outside.jpg", "error"),
    "climbing late": ("1/../../../../outside.jpg", "error"),
    "climbing to itself": ("1/../1/neighbour.jpg", "error"),
    "climbing by backslashes": ("..\\..\\outside.jpg", "error"),
    "climbing in quotes": ('"../outside.jpg"', "error"),
    "climbing at the end": ("1/..", "error"),
    "absolute": ("/etc/passwd", "error"),
    "absolute by backslash": ("\\etc\\passwd", "error"),
    "absolute after spaces": ("  /etc/passwd", "error"),
    "two slashes first": ("//etc/passwd", "error"),
    "a NUL": ("1/neighbour.jpg\0.png", "error"),
}
"""Peculiarity → a path in a list, and the result."""


def each_line(content: bytes, change: Callable[[bytes, int], bytes]) -> bytes:
    """Every line changed, by its number."""
    return b"".join(change(line, number) + b"\n" for number, line in enumerate(content.splitlines()))


FILES: dict[str, tuple[Callable[[bytes], bytes], str | None]] = {
    "a byte-order mark": (lambda c: b"\xef\xbb\xbf" + c, None),
    "CRLF": (lambda c: c.replace(b"\n", b"\r\n"), None),
    "no final line end": (lambda c: c.rstrip(b"\n"), None),
    "empty lines": (lambda c: c.replace(b"\n", b"\n\n"), None),
    "every cell in quotes": (lambda c: each_line(c, lambda line, _: b",".join(b'"%s"' % cell for cell in line.split(b","))), None),
    "a further column": (lambda c: each_line(c, lambda line, n: line + b",%d" % n), None),
    "UTF-16": (lambda c: c.decode().encode("utf-16"), "unreadable list"),
    "nothing": (lambda _: b"", "neither a header nor a row"),
    "only the header": (lambda c: c.splitlines()[0] + b"\n", "unreadable list|no row; is the download complete"),
    "only line ends": (lambda _: b"\n" * 1000, "neither a header nor a row"),
    "zeros": (lambda c: bytes(len(c)), "neither a header nor a row"),
    "zeros for its last third": (lambda c: c[: 2 * len(c) // 3] + bytes(len(c) // 3), "counted"),
    "only CR": (lambda c: c.replace(b"\n", b"\r"), "column arousal is missing"),
    "semicolons": (lambda c: c.replace(b",", b"\t"), "neither a header nor a row"),
    "gzip": (gzip.compress, "unreadable list|neither a header"),
    "a table of Excel": (lambda _: b"PK\x03\x04" + bytes(2000), "neither a header nor a row"),
    "JSON": (lambda _: b'{"training": []}', "neither a header nor a row"),
    "a page": (lambda _: b"<!doctype html>\n<title>404</title>\n", "neither a header nor a row"),
    "Latin-1 in a line of another number of cells": (lambda c: c + b"caf\xe9\n", "unreadable list"),
    "Latin-1 in a cell": (lambda c: c.replace(b",10,10,", b",1\xe9,10,", 1), "unreadable list"),
    "a column too few": (lambda c: c.replace(b",arousal", b"", 1), "column arousal is missing"),
    "a column twice": (lambda c: c.replace(b"arousal", b"valence", 1), "column arousal is missing"),
    "a further column of a known name": (lambda c: each_line(c, lambda line, n: line + (b",7" if n else b",valence")), "more than once"),
    "a million columns": (lambda c: c.replace(b"\n", b"," * 1_000_000 + b"\n", 1), "no image is listed for the split train"),
    "a header of ten million letters": (lambda c: b"x" * 10_000_000 + c, "neither a header nor a row"),
    "a line of 5 MB": (lambda c: c + b"x" * 5_000_000 + b"\n", "counted"),
    "a line of 100 MB": (lambda c: c + b"x" * 100_000_000 + b"\n", "unreadable list"),
    "a cell of 100 MB": (lambda c: c + row(NEIGHBOUR, landmarks="1;" * 50_000_000).encode() + b"\n", "unreadable list"),
    "a first line of 100 MB": (lambda c: b"1" * 100_000_000 + b"\n" + c, "neither a header nor a row"),
}  # fmt: skip
"""Fault → the list's bytes from valid ones, and the message; None: valid; `counted`: rows are rejected."""


class Payload:
    """A pickle of this creates a folder when it is loaded, which proves that code ran."""

    def __init__(self, flag: Path) -> None:
        self.flag = str(flag)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return Path.mkdir, (Path(self.flag),)  # type: ignore[return-value]


class Npy(NamedTuple):
    """One npy file: its kind, its bytes, and the fault of its row (None: valid)."""

    kind: str
    content: bytes
    fault: str | None


def saved(value: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(value, **options), allow_pickle=True)
    return buffer.getvalue()


def claimed(descr: object, shape: object, data: bytes = b"", order: object = False, version: bytes = b"\1\0") -> bytes:
    """An npy file with this header."""
    header = f"{{'descr': {descr!r}, 'fortran_order': {order!r}, 'shape': {shape!r}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + len(header).to_bytes(2 if version == b"\1\0" else 4, "little") + header + data


def headed(header: bytes) -> bytes:
    return b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header


def archive(flag: Path) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, exp=np.array([Payload(flag)], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def npy_cases(flag: Path) -> dict[str, Npy]:
    """Fault → the file. flag: the folder that code in the file would create."""
    evil = np.empty((), dtype=object)
    evil[()] = Payload(flag)
    anywhere: dict[str, bytes] = {
        "nothing": b"",
        "text": b"3",
        "a pickle": pickle.dumps(Payload(flag)),
        "an old pickle": pickle.dumps(Payload(flag), protocol=0),
        "an npy of a pickle": saved(evil),
        "an npz of a pickle": archive(flag),
        "an npz of numbers": b"PK\x03\x04" + bytes(200),
        "code for a header": headed(f"__import__('os').mkdir({str(flag)!r})".encode()),
        "code in a header": headed(f"{{'descr': __import__('os').mkdir({str(flag)!r}), 'fortran_order': False, 'shape': ()}}".encode()),
        "a header 60,000 deep": headed(b"(" * 60_000),
        "a header of 65,535 zeros": headed(bytes(65_535)),
        "a header cut": saved(3)[:40],
        "a body cut": saved(3.0)[:-3],
        "no body": saved(3.0)[:-8],
        "a later version": saved(3).replace(b"\1\0", b"\x09\0", 1),
        "version 2 with a huge header": b"\x93NUMPY\2\0\xff\xff\xff\x7f" + bytes(50),
        "a shape of a tera": claimed("<f8", (10**12,)),
        "a shape of 800 MB": claimed("<f8", (10**8,)),
        "a shape beyond 64 bits": claimed("<f8", (2**70,)),
        "a shape whose product is none": claimed("<f8", (2**40, 2**40)),
        "a negative shape": claimed("<f8", (-1,)),
        "a shape of words": claimed("<f8", ("1",)),
        "a tera of nothing": claimed("<U0", (10**12,)),
        "a giga of void": claimed("|V0", (10**9,)),
        "an array without elements": claimed("<f8", (0,)),
        "a letter of 4 GB": claimed("<U1000000000", ()),
        "a letter that is none": claimed("<U1", (), b"\xff\xff\xff\x7f"),
        "half a letter": claimed("<U1", (), b"\x00\xd8\x00\x00"),
        "a date": saved(np.datetime64("2017-01-01")),
        "a span": saved(np.timedelta64(3, "s")),
        "complex": saved(3 + 0j),
        "true": saved(True),
        "a record": saved(np.zeros((), dtype=[("exp", "<i4"), ("val", "<f8")])),
        "an unknown type": claimed("<q9", ()),
        "an order of words": claimed("<f8", (), bytes(8), order="no"),
        "a word": saved("Happy"),
        "infinity": saved(np.inf),
        "not a number": saved(np.nan),
        "1e300": saved(1e300),
        "Arabic digits": saved("١"),
        "full-width digits": saved("１"),
        "an underscore": saved("1_0"),
        "hexadecimal": saved("0x1"),
        "bytes of no ASCII": saved(b"\xe9"),
        "larger than any": saved(np.zeros(10_000)),
    }
    cases = {f"{kind}: {what}": Npy(kind, content, "malformed") for what, content in anywhere.items() for kind in ("exp", "aro")}
    cases |= {f"lnd: {what}": Npy("lnd", content, "landmarks_malformed") for what, content in anywhere.items()}
    cases |= {
        "exp: a fraction": Npy("exp", saved(0.5), "malformed"),
        "exp: two": Npy("exp", saved([1, 2]), "malformed"),
        "exp: bytes": Npy("exp", saved(b"0"), None),
        "exp: in a list": Npy("exp", saved([0]), None),
        "val: a long double": Npy("val", saved(0.0, dtype=np.longdouble), None),
        "val: a half": Npy("val", saved(0.0, dtype=np.float16), None),
        "val: big-endian": Npy("val", saved(0.0, dtype=">f8"), None),
        "lnd: 135": Npy("lnd", saved(np.zeros(135)), "landmarks_malformed"),
        "lnd: 137": Npy("lnd", saved(np.zeros(137)), "landmarks_malformed"),
        "lnd: with NaN": Npy("lnd", saved([np.nan] * 136), "landmarks_malformed"),
        "lnd: 1e38": Npy("lnd", saved([1e38] * 136), "landmarks_malformed"),
        "lnd: of words": Npy("lnd", saved(["x"] * 136), "landmarks_malformed"),
        "lnd: of numbers as words": Npy("lnd", saved(["1.5"] * 136), None),
        "lnd: of points": Npy("lnd", saved(np.ones((68, 2), order="F")), None),
    }
    return cases


def plus(**changes: object) -> bytes:
    return json.dumps({"human-label": 0, "valence": 0.0, "arousal": 0.0, **changes}).encode()


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def json_cases() -> dict[str, tuple[bytes, str | None]]:
    """Fault → the bytes of a JSON annotation, and the fault of its row (None: valid)."""
    deep = b"[" * 100_000
    bad = {
        "nothing": b"",
        "spaces": b" " * 1000,
        "no JSON": b"human-label: 3",
        "a list": b"[]",
        "a number": b"3",
        "null": b"null",
        "a word": b'"a"',
        "an empty mapping": b"{}",
        "cut": plus()[:-4],
        "two of them": plus() * 2,
        "100,000 deep": deep,
        "100,000 deep and closed": deep + b"]" * 100_000,
        "100,000 mappings deep": b'{"a":' * 100_000,
        "a label 100,000 deep": b'{"human-label":' + deep + b"]" * 100_000 + b"}",
        **{f"a label {depth} deep": b'{"human-label":' + nested(depth) + b"}" for depth in (500, 900, 950, 980, 990, 994)},
        "UTF-16": plus().decode().encode("utf-16"),
        "Latin-1": b'{"human-label": "\xe9"}',
        "NUL bytes": bytes(500),
        "larger than any": b'{"a": "' + b"x" * (1 << 20) + b'"}',
        "a label twice, the last none": b'{"human-label": 0, "human-label": "x", "valence": 0, "arousal": 0}',
        "5,000 digits": b'{"human-label": ' + b"9" * 5000 + b"}",
        "400 digits": b'{"human-label": ' + b"9" * 400 + b', "valence": 0, "arousal": 0}',
        "half a letter": b'{"human-label": "\\ud800", "valence": 0, "arousal": 0}',
        "half a letter for valence": b'{"human-label": 0, "valence": "\\udfff\\u0000", "arousal": 0}',
        "NaN": plus(valence=float("nan")),
        "Infinity": plus(arousal=float("inf")),
        "1e309": b'{"human-label": 0, "valence": 1e309, "arousal": 0}',
        "1e30": plus(valence=1e30),
        "metadata that is a list": b'{"human-label": 0, "meta-data": [0, 0]}',
        **{
            f"{key}: {value!r}"[:60]: plus(**{key: value})
            for key in ("human-label", "valence")
            for value in (None, True, False, "", "x", "NaN", "inf", "1_0", "١", "0x0", [], [0], {}, {"a": 0}, "0" * 5000 + "x")
        },
        **{f"human-label: {value}": plus(**{"human-label": value}) for value in (0.5, 1000, -1000, 1e300, "1.5")},
    }
    landmarks = {
        **{f"landmarks: {count} numbers": plus(landmarks=[1.0] * count) for count in (1, 135, 137, 1000)},
        "landmarks: a word": plus(landmarks="1;2;3"),
        "landmarks: true": plus(landmarks=True),
        "landmarks: a mapping": plus(landmarks={"x": [1]}),
        "landmarks: of words": plus(landmarks=["x"] * 136),
        "landmarks: of nothing": plus(landmarks=[None] * 136),
        "landmarks: ragged": plus(landmarks=[[1, 2]] * 67 + [[1]]),
        "landmarks: NaN": plus(landmarks=[float("nan")] * 136),
        "landmarks: 1e38": plus(landmarks=[1e38] * 136),
        "landmarks: 400 digits": plus(landmarks=[10**400] * 136),
        "landmarks: half a letter": plus(landmarks="\ud800"),
        **{f"landmarks: {depth} deep": plus(landmarks="x").replace(b'"x"', nested(depth)) for depth in (60, 70, 500, 900)},
    }
    sound = {
        "a byte-order mark": b"\xef\xbb\xbf" + plus(),
        "a label as text": plus(**{"human-label": " 0 "}),
        "a label twice, the last one": b'{"human-label": "x", "human-label": 0, "valence": 0, "arousal": 0}',
        "keys of another spelling": b'{"HUMAN_LABEL": 0, "Meta Data": {"Valence": 0, "AROUSAL": -0.0}}',
        "empty landmarks": plus(landmarks=[]),
        "landmarks in points": plus(landmarks=[[1, 2]] * 68),
        "other keys": plus(__class__="os.system", constructor={"prototype": 1}),
    }
    return {
        **{what: (content, "malformed") for what, content in bad.items()},
        **{what: (content, "landmarks_malformed") for what, content in landmarks.items()},
        **{what: (content, None) for what, content in sound.items()},
    }
