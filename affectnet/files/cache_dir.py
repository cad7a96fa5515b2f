"""Where state that is no result lives: the main clone's .dvc/tmp, shared with the temporary clones of experiments."""

from pathlib import Path


def cache_folder(*parts: str) -> Path:
    """A folder below .dvc/tmp/affectnet of the main clone, made if need be.

    `dvc exp run --temp` and the queue work in `<main>/.dvc/tmp/exps/<name>`, which is removed afterwards: there the
    main clone's folder is meant, so that nothing learned in such a run is lost with it.
    """
    here = Path.cwd()
    main = next((up.parents[2] for up in here.parents if up.parts[-3:] == (".dvc", "tmp", "exps")), here)
    folder = main.joinpath(".dvc", "tmp", "affectnet", *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
