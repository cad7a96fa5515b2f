"""Broken params.yaml, source.json, checksum lists and Parquet files."""

import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Yaml(NamedTuple):
    """A text in place of params.yaml, made from the shipped one, and the message; None: valid."""

    change: Callable[[str], str | bytes]
    message: str | None


def tolerance(value: str) -> Callable[[str], str | bytes]:
    """The shipped file with another value of verify.tolerance."""
    return lambda text: text.replace("tolerance: 0.01 ", f"tolerance: {value} ", 1)


def bomb(levels: int, width: int, merged: bool = False) -> str:
    """Aliases of aliases: width ** levels values in a few lines."""
    lines = ["bomb0: &b0 {x: 1}" if merged else "bomb0: &b0 [x]"]
    for level in range(1, levels):
        below = ", ".join([f"*b{level - 1}"] * width)
        lines.append(f"bomb{level}: &b{level} {{<<: [{below}]}}" if merged else f"bomb{level}: &b{level} [{below}]")
    return "\n".join(lines) + "\n"


def deep(open_: str, count: int, close: str = "") -> Callable[[str], str | bytes]:
    return lambda text: f"{text}deep: {open_ * count}{close * count}\n"


UNREADABLE, NUMBER = "unreadable YAML", "verify.tolerance: input should be"
VALUES = {
    "~": NUMBER, "": NUMBER, "'0.5'": NUMBER, "true": NUMBER, "no": NUMBER, "[0.5]": NUMBER, "{}": NUMBER, "{a: 1}": NUMBER,
    ".nan": NUMBER, ".inf": NUMBER, "-.inf": NUMBER, "-0.1": NUMBER, "1.1": NUMBER, "1e309": NUMBER, "1_0": NUMBER, "2017-01-01": NUMBER,
    "0.5.1": NUMBER, "half": NUMBER, "٠": NUMBER, "9" * 400: NUMBER, "9" * 5000: UNREADABLE, "2017-99-99": UNREADABLE,
    "!!int half": UNREADABLE, "!!float half": UNREADABLE, "!!binary x": UNREADABLE, "!!timestamp x": UNREADABLE, "!!set [1]": UNREADABLE,
    "!!omap 1": UNREADABLE, "!!map 1": UNREADABLE, "!!python/object/apply:os.mkdir [code_has_run]": UNREADABLE,
    "!!python/name:os.system": UNREADABLE, "!unknown 1": UNREADABLE, "*nothing": UNREADABLE, "&a *a": UNREADABLE, "&a [*a]": NUMBER,
    "[": UNREADABLE, "'": UNREADABLE, "@": UNREADABLE, "\t1": UNREADABLE, "0.5": None, "5e-1": None, "1": None, "&a 0.5": None,
    "!!float 1": None,
}  # fmt: skip

YAML: dict[str, Yaml] = {
    **{f"tolerance {value[:30]!r} of {len(value)}": Yaml(tolerance(value), message) for value, message in VALUES.items()},
    "nothing": Yaml(lambda _: "", "not a mapping"),
    "a word": Yaml(lambda _: "verify", "not a mapping"),
    "a list": Yaml(lambda _: "- verify\n", "not a mapping"),
    "two documents": Yaml(lambda text: f"{text}---\n{text}", UNREADABLE),
    "zeros": Yaml(lambda text: bytes(len(text)), UNREADABLE),
    "no UTF-8": Yaml(lambda text: text.encode() + b"a: \xff\n", UNREADABLE),
    "UTF-16": Yaml(lambda text: text.encode("utf-16"), UNREADABLE),
    "a control character": Yaml(lambda text: f"{text}a: \x07\n", UNREADABLE),
    "half a letter": Yaml(lambda text: f'{text}a: "\\ud800"\n', None),
    "a byte-order mark": Yaml(lambda text: f"\ufeff{text}", None),
    "CRLF": Yaml(lambda text: text.replace("\n", "\r\n").encode(), None),
    "larger than any": Yaml(lambda text: f"{text}a: {'x' * (1 << 20)}\n", "more than 1,048,576"),
    "JSON": Yaml(lambda _: '{"verify": {"tolerance": 2}}', NUMBER),
    "the section twice": Yaml(lambda text: f"{text}verify:\n  tolerance: 0.5\n  follow_links: true\n", "found duplicate key"),
    "the key twice": Yaml(lambda text: text.replace("  tolerance: 0.01", "  tolerance: 0.5\n  tolerance: 0.01", 1), "found duplicate key"),
    "an unknown key": Yaml(lambda text: text.replace("  tolerance: 0.01", "  tolerence: 0.01", 1), "verify.tolerence: unknown"),
    "a key that is a number": Yaml(lambda text: text.replace("  tolerance: 0.01", "  7: 0\n  tolerance: 0.01", 1), "verify.7"),
    "a key that is null": Yaml(lambda text: text.replace("  tolerance: 0.01", "  ~: 0\n  tolerance: 0.01", 1), "verify.None"),
    "a key that is a list": Yaml(lambda text: text.replace("  tolerance: 0.01", "  [1]: 0\n  tolerance: 0.01", 1), "verify"),
    "a key that is true": Yaml(lambda text: text.replace("  tolerance: 0.01", "  true: 0\n  tolerance: 0.01", 1), "verify.True"),
    "the section a word": Yaml(lambda text: text.replace("verify:\n", "verify: 3\nother:\n", 1), "verify: the section is missing"),
    "the section a list": Yaml(lambda text: text.replace("verify:\n", "verify: [1]\nother:\n", 1), "verify: the section is missing"),
    "the section gone": Yaml(lambda text: text.replace("verify:\n", "other:\n", 1), "verify: the section is missing"),
    "a link that is a word": Yaml(lambda text: text.replace("follow_links: false", "follow_links: 'no'", 1), "verify.follow_links"),
    "a bomb": Yaml(lambda text: text + bomb(9, 9), "aliases"),
    "a bomb of merges": Yaml(lambda text: text + bomb(9, 9, merged=True), "aliases"),
    "a tall bomb": Yaml(lambda text: text + bomb(60, 2), "aliases"),
    "a small bomb as a value": Yaml(lambda text: bomb(5, 7) + tolerance("*b4")(text), NUMBER),  # type: ignore[operator]
    "a small bomb of merges as a value": Yaml(lambda text: bomb(8, 4, merged=True) + tolerance("*b7")(text), NUMBER),  # type: ignore[operator]
    "a bomb of long words": Yaml(
        lambda text: bomb(8, 4).replace("[x]", f"[{'x' * 100_000}]", 1) + tolerance("*b7")(text),  # type: ignore[operator]
        NUMBER,
    ),
    "100,000 brackets": Yaml(deep("[", 100_000), UNREADABLE),
    "100,000 brackets closed": Yaml(deep("[", 100_000, "]"), UNREADABLE),
    "100,000 braces": Yaml(deep("{a: ", 100_000, "}"), UNREADABLE),
    "100,000 dashes": Yaml(lambda text: f"{text}deep:\n  {'- ' * 100_000}\n", UNREADABLE),
    "100,000 question marks": Yaml(lambda text: f"{text}deep:\n  {'? ' * 100_000}\n", UNREADABLE),
}
"""Fault → the file."""

GOOD: dict[str, object] = {
    "layout": "affectnet2017",
    "root": ".",
    "classes": {},
    "splits": {},
    "lists": "manual",
    "expected": {},
    "checksums": None,
}
ODD: dict[str, tuple[object, ...]] = {
    "layout": (None, 3, [], "", "demo", "../affectnet2017"),
    "root": (None, 3, [], "nowhere", "/dev/null", "a\0b", "x" * 300, "/" + "a/" * 5000, "loop", "source.json"),
    "classes": (None, 3, [], {"a": 1}, {"a": ["Happy"]}),
    "splits": (None, "train"),
    "lists": (None, 3, "all", "auto"),
    "expected": (None, 3, {"train": 1}, {"training": "1"}, {"training": 1.5}, {"training": None}),
    "checksums": (3, [], ".", "nowhere", "a\0b", "x" * 300, "pipe", "loop"),
    "unknown": (1,),
}
POINTERS: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"layout: demo",
    "no UTF-8": b'{"layout": "\xff"}',
    "a list": b"[]",
    "null": b"null",
    "empty": b"{}",
    "100,000 deep": b"[" * 100_000,
    "100,000 mappings deep": b'{"layout":' * 100_000,
    "5,000 digits": b'{"layout": ' + b"9" * 5000 + b"}",
    "half a letter": b'{"layout": "\\ud800", "root": "."}',
    **{f"{key}: {str(value)[:20]}": json.dumps({**GOOD, key: value}).encode() for key, values in ODD.items() for value in values},
}
"""Fault → a source.json."""

DIGEST = "0" * 64
SUMS: dict[str, bytes] = {
    "a page": b"<html>\n",
    "a digest too short": DIGEST[1:].encode() + b"  a.jpg\n",
    "a digest of other letters": b"g" * 64 + b"  a.jpg\n",
    "no name": DIGEST.encode() + b"  \n",
    "one space": DIGEST.encode() + b" a.jpg\n",
    "a SHA-1": b"0" * 40 + b"  a.jpg\n",
    "BSD's format": b"SHA256 (a.jpg) = " + DIGEST.encode() + b"\n",
    "no UTF-8": DIGEST.encode() + b"  \xe9.jpg\n",
    "zeros": bytes(5000),
    "UTF-16": f"{DIGEST}  a.jpg\n".encode("utf-16"),
    "Unicode digits": ("０" * 64).encode() + b"  a.jpg\n",
    "a line of 20 MB": b"x" * 20_000_000,
}
"""Fault → a list of checksums."""

DAMAGE: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "a bit": lambda content, draw: _flipped(content, 1, draw),
    "bytes": lambda content, draw: _flipped(content, 30, draw),
    "a bit of its footer": lambda content, draw: content[:-1200] + _flipped(content[-1200:], 1, draw),
    "bytes of its footer": lambda content, draw: content[:-1200] + _flipped(content[-1200:], 12, draw),
    "cut": lambda content, draw: content[: int(draw.integers(0, len(content)))],
    "filled": lambda content, draw: content[: (at := int(draw.integers(4, len(content))))] + draw.bytes(9) + content[at:],
    "zeros": lambda content, draw: content[: (at := int(draw.integers(4, len(content) - 64)))] + bytes(64) + content[at + 64 :],
}
"""Kinds of damage to a Parquet file."""


def _flipped(content: bytes, count: int, draw: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for at in draw.integers(0, len(content), count):
        changed[at] ^= 1 << int(draw.integers(0, 8))
    return bytes(changed)
