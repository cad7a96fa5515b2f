"""The readers, one file a layout: from a download on the disk to rows of one shape."""

from affectnet.errors import UserError, pass_machine_fault
from affectnet.pointer import Pointer
from affectnet.sources.affectnet2017 import AffectNet2017
from affectnet.sources.affectnet2021 import AffectNet2021
from affectnet.sources.affectnet_plus import AffectNetPlus
from affectnet.sources.folder import Folder
from affectnet.sources.source import Source

LAYOUTS: dict[str, type[Source]] = {
    "affectnet2017": AffectNet2017,
    "affectnet2021": AffectNet2021,
    "affectnet_plus": AffectNetPlus,
    "folder": Folder,
}


def open_source(pointer: Pointer) -> Source:
    """The reader of the pointer's layout, its lists found, not read. Errors: UserError when they are not there."""
    if pointer.layout not in LAYOUTS:
        raise UserError(f"source.json: no layout {pointer.layout!r}; known are {', '.join(LAYOUTS)}")
    try:
        return LAYOUTS[pointer.layout](pointer)
    except OSError as error:
        pass_machine_fault(error, pointer.root)
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}; give this user the right to, or take it out") from None
