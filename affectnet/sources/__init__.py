"""The readers, one file a layout: from a download on the disk to rows of one shape."""

from affectnet.errors import UserError, pass_machine_fault
from affectnet.sources.affectnet2017 import AffectNet2017
from affectnet.sources.affectnet2021 import AffectNet2021
from affectnet.sources.affectnet_plus import AffectNetPlus
from affectnet.sources.fer2013_csv import Fer2013Csv
from affectnet.sources.folder import Folder
from affectnet.sources.huggingface import HuggingFace
from affectnet.sources.raf_db import RafDb
from affectnet.sources.sight import sight
from affectnet.sources.source import Layout, Source
from affectnet.sources.unpacked import Unpacked
from affectnet.sources.yolo import Yolo
from affectnet.tables.source_pointer import Pointer

LAYOUTS: dict[str, type[Layout]] = {
    "affectnet2017": AffectNet2017,
    "affectnet2021": AffectNet2021,
    "affectnet_plus": AffectNetPlus,
    "fer2013_csv": Fer2013Csv,
    "huggingface": HuggingFace,
    "raf_db": RafDb,
    "yolo": Yolo,
    "folder": Folder,
    "unpacked": Unpacked,
}


def open_layout(pointer: Pointer) -> Layout:
    """The reader of the pointer's layout, its lists found, not read.

    Errors: UserError when they are not there; it names the layout that the tree seems to be, or what is at its top.
    """
    if pointer.layout not in LAYOUTS:
        raise UserError(f"source.json: no layout {pointer.layout!r}; known are {', '.join(LAYOUTS)}")
    try:
        return LAYOUTS[pointer.layout](pointer)
    except OSError as error:
        pass_machine_fault(error, pointer.root)
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}; give this user the right to, or take it out") from None
    except UserError as error:
        *others, problem = error.problems
        raise UserError(*others, "; ".join(filter(None, [problem, sight(pointer, LAYOUTS)]))) from None


def open_source(pointer: Pointer) -> Source:
    """As open_layout, of a download whose images are files. Errors: UserError when they are still to be unpacked."""
    reader = open_layout(pointer)
    if not isinstance(reader, Source):
        raise UserError(f"source.json: the images of {pointer.root} are not unpacked; run `dvc repro -f acquire`")
    return reader
