"""The files of a Git revision, or of the working folder: params, metrics, and what DVC tracks."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dvc.api
from dvc.scm import SCM, resolve_rev

from affectnet.errors import UserError
from affectnet.params import parse_document
from affectnet.search.study import git


@dataclass(frozen=True)
class Revision:
    """name: a revision of Git or an experiment of DVC; None for the files of the working folder as they are. commit: of the name."""

    name: str | None
    commit: str = ""

    @classmethod
    def named(cls, name: str) -> "Revision":
        """The commit that DVC takes for the name: of an experiment that starts from HEAD before one of the same name that does not.

        Errors: UserError when neither Git nor DVC knows it, or several experiments have the name and none starts from HEAD.
        """
        lines = git("for-each-ref", "--format=%(objectname:short) %(refname)", "refs/exps/??/*/*").splitlines()
        experiments = [commit for commit, ref in map(str.split, lines) if ref.endswith(f"/{name}")]
        if name:  # DVC takes an empty one for HEAD
            with suppress(Exception):  # Git, scmrepo and DVC have no common class of errors
                return cls(name, git("rev-parse", "--verify", "--quiet", f"{resolve_rev(SCM('.'), name)}^{{commit}}").strip())
        if len(experiments) > 1:
            commits = ", ".join(experiments)
            raise UserError(f"{name}: {len(experiments)} experiments have this name, and none starts from HEAD: {commits}; give a commit")
        raise UserError(f"{name}: neither a revision of Git nor an experiment of DVC; `git branch -a` and `dvc exp list` name them")

    @property
    def title(self) -> str:
        return "here" if self.name is None else self.name

    def text(self, path: str) -> str | None:
        """A file that Git tracks; None where the revision has none."""
        if self.name is None:
            file = Path(path)
            return file.read_text(encoding="utf-8") if file.is_file() else None
        if not git("ls-tree", "--name-only", self.commit, "--", path).strip():
            return None
        return git("show", f"{self.commit}:{path}")

    def metrics(self, stage: str) -> dict[str, Any]:
        """metrics/<stage>.json; empty where the revision has none. Errors: UserError when it is not a mapping in JSON."""
        path = f"metrics/{stage}.json"
        try:
            document = json.loads(self.text(path) or "{}")
        except ValueError as error:
            raise UserError(f"{path} of {self.title}: invalid JSON: {error}") from None
        if not isinstance(document, dict):
            raise UserError(f"{path} of {self.title}: not a mapping")
        return document

    def document(self, path: str) -> Mapping[str, Any]:
        """A YAML file; empty where the revision has none. Errors: UserError when it is not a mapping in YAML."""
        return parse_document(self.text(path) or "{}", f"{path} of {self.title}")

    def tracked(self, path: str) -> bytes | None:
        """A file that DVC tracks, from the working folder or the cache; None where it is in neither, as in CI without a remote."""
        if self.name is None:
            return Path(path).read_bytes() if Path(path).is_file() else None
        try:
            content: bytes = dvc.api.read(path, rev=self.commit, mode="rb")
        except Exception:  # DVC has no common class of errors, from an unknown output to a lost cache
            return None
        return content
