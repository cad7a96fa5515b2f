"""The cache folder, for state that is not a result: in the main clone's .dvc/tmp, shared with the temporary clones of experiments."""

from pathlib import Path


def cache_folder(*parts: str) -> Path:
    """A folder below .dvc/tmp/affectnet of the main clone, created if it is missing.

    `dvc exp run --temp` and the queue work in `<main>/.dvc/tmp/exps/<name>`, which is removed afterwards, so from there
    this is the folder of the main clone.
    """
    working = Path.cwd()
    main = next((parent.parents[2] for parent in working.parents if parent.parts[-3:] == (".dvc", "tmp", "exps")), working)
    folder = main.joinpath(".dvc", "tmp", "affectnet", *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
