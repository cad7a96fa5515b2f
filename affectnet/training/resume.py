"""Training state that survives a kill: kept outside the stage's outputs, under a key of all that decides the result.

The state of a training that has ended stays until another training ends, because DVC may still fail before it has stored the outputs.
"""

import fcntl
import hashlib
import json
import math
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from affectnet.errors import UserError, one_line, reraise_machine_fault
from affectnet.files.atomic import replacing
from affectnet.files.cache_dir import cache_folder
from affectnet.files.sha256 import file_sha256

ENDED = "ended"
"""Name of the empty file next to the state of a training that has ended."""


def resume_key(params: Mapping[str, Any], files: Sequence[Path]) -> str:
    """SHA-256 of the params, of the files' bytes, of torch's version and of this project's loaded code, in hex."""
    digest = hashlib.sha256(json.dumps([params, torch.__version__], sort_keys=True).encode())
    for path in [*_loaded_code(), *files]:
        digest.update(file_sha256(path))
    return digest.hexdigest()


def _loaded_code() -> list[Path]:
    """The source files of this project's modules that are loaded, the started one included."""
    modules = (module for name, module in sys.modules.items() if name.split(".")[0] in {"affectnet", "stages", "__main__"})
    files = {getattr(module, "__file__", None) for module in modules}
    return sorted(Path(file) for file in files if file)


def finite(state: Any) -> bool:
    """Whether every number in a nested state is finite."""
    if isinstance(state, Mapping):
        return all(map(finite, state.values()))
    if isinstance(state, list | tuple):
        return all(map(finite, state))
    if isinstance(state, torch.Tensor):
        return bool(state.isfinite().all())
    return not isinstance(state, float) or math.isfinite(state)


class TrainingState:
    """The one file that holds the last finished epoch of a training, and its lock."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "last.pt"

    def load(self) -> dict[str, Any] | None:
        """The state after the last finished epoch; None when it is missing, or unreadable, which is logged."""
        if not self.path.exists():
            return None
        try:
            with zipfile.ZipFile(self.path) as archive:  # torch.load ignores the checksums, and so a flipped bit
                damaged = archive.testzip()
                if damaged:
                    raise zipfile.BadZipFile(damaged)
            state: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            if not isinstance(state, dict):
                raise TypeError(f"holds a {type(state).__name__}")
        except Exception as error:  # whatever is wrong with it, training from the first epoch gives the same result
            reraise_machine_fault(error, self.path)  # the next run may be able to read it
            self.log_refused(error)
            return None
        return state

    def log_refused(self, error: Exception) -> None:
        """Logs that the state is not used, and why."""
        reason = one_line(": ".join(filter(None, [type(error).__name__, str(error)])))
        print(f"resume: {self.path} is not used ({reason}); starting from the first epoch", file=sys.stderr)

    def log_resumed(self, epoch: int) -> None:
        """Logs that the training resumes from the state."""
        print(f"resume: continuing after epoch {epoch} of {self.path}", file=sys.stderr)

    def save(self, state: Mapping[str, Any]) -> None:
        """Replaces the state atomically."""
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            try:
                torch.save(dict(state), file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # a full disk, which torch's writer hides behind an error about its byte count
                    raise error.__context__ from None
                raise


class ReadOnlyState(TrainingState):
    """The same file in a process that does not hold its lock: read, never written."""

    def save(self, state: Mapping[str, Any]) -> None:
        """Does nothing: the process that holds the lock writes the state."""


def read_only_state(key: str) -> TrainingState:
    """The state under the key, which another process of the same training has locked."""
    return ReadOnlyState(_folder(key))


@contextmanager
def training_state(key: str) -> Iterator[TrainingState]:
    """The state under the key, locked for this process. After the block, the states of other trainings that have ended are removed.

    Errors: UserError when another process trains with the same key.
    """
    folder = _folder(key)
    with _locked(folder) as locked:
        if not locked:
            raise UserError("stages.train: the same training already runs in another process; wait for it or end it")
        (folder / ENDED).unlink(missing_ok=True)
        yield TrainingState(folder)
        (folder / ENDED).touch()
        for ended in folder.parent.glob(f"*/{ENDED}"):
            if ended.parent != folder:
                _remove(ended.parent)


def _remove(folder: Path) -> None:
    """Removes the state of an ended training, unless a process resumes it."""
    with _locked(folder) as locked:
        if locked and (folder / ENDED).exists():
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether this process holds the folder's lock within the block."""
    with (folder.parent / f"{folder.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _folder(key: str) -> Path:
    return cache_folder("resume", key[:16])
