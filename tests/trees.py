"""Tiny downloads of each layout, written by the tests: noise for faces, true shapes for everything else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from affectnet.pointer import Pointer

LANDMARKS = ";".join(f"{value:.2f}" for value in np.linspace(10, 80, 136))
HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
MEANS = ((0, 0), (0.67, 0.08), (-0.63, -0.27), (0.18, 0.7), (-0.12, 0.76), (-0.68, 0.45), (-0.43, 0.55), (-0.51, 0.58))
FER_CLASSES = {
    "angry": "Anger",
    "disgust": "Disgust",
    "fear": "Fear",
    "happy": "Happy",
    "neutral": "Neutral",
    "sad": "Sad",
    "surprise": "Surprise",
}


def noise(path: Path, seed: int, side: int = 96, kind: str | None = None, mode: str = "RGB") -> None:
    """A photograph of nothing: smooth noise, so that no two hashes are near."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    image = Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC).convert(mode)
    image.save(path, kind, **({"quality": 90} if path.suffix.lower() in {".jpg", ".jpeg"} and kind is None else {}))


def row(path: str, box: str = "10,10,70,70", landmarks: str = LANDMARKS, expression: object = 0, va: str | None = None) -> str:
    if va is None:
        va = "{},{}".format(*MEANS[int(str(expression))]) if str(expression).isdecimal() and int(str(expression)) < 8 else "-2,-2"
    return f"{path},{box},{landmarks},{expression},{va}"


def write_2017(
    root: Path, training: list[str], validation: list[str], header: str = HEADER, validation_header: str | None = None
) -> Pointer:
    """The lists; images are written by the caller or by `images_2017`."""
    lists = root / "Manually_Annotated_file_lists"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "training.csv").write_text("\n".join([*([header] if header else []), *training]) + "\n", encoding="utf-8")
    head = [validation_header] if validation_header else []
    (lists / "validation.csv").write_text("\n".join([*head, *validation]) + "\n", encoding="utf-8")
    return Pointer("affectnet2017", str(root))


def images_2017(root: Path) -> Path:
    return root / "Manually_Annotated" / "Manually_Annotated_Images"


def tree_2017(root: Path, each: int = 6, tests: int = 2) -> Pointer:
    """`each` training and `tests` validation rows of each of the eight expressions, all sound."""
    training: list[str] = []
    validation: list[str] = []
    for number in range(8 * (each + tests)):
        path = f"{number % 3 + 1}/{number:056x}.jpg"
        noise(images_2017(root) / path, number)
        (training if number < 8 * each else validation).append(row(path, expression=number % 8))
    return write_2017(root, training, validation)


def tree_2021(root: Path, each: int = 6, tests: int = 2) -> Pointer:
    """npy files of the types that are in circulation: text, integers, floats."""
    for folder, count in (("train_set", each), ("val_set", tests)):
        annotations = root / folder / "annotations"
        annotations.mkdir(parents=True, exist_ok=True)
        for number in range(8 * count):
            noise(root / folder / "images" / f"{number * 3}.jpg", number + (1000 if folder == "val_set" else 0), 224)
            code, (valence, arousal) = number % 8, MEANS[number % 8]
            values: dict[str, Any] = {"exp": str(code), "val": str(valence), "aro": arousal, "lnd": np.linspace(20, 200, 136)}
            if number % 2:
                values |= {"exp": code, "val": np.float32(valence)}
            for kind, value in values.items():
                np.save(annotations / f"{number * 3}_{kind}.npy", value)
    return Pointer("affectnet2021", str(root))


def tree_plus(root: Path, each: int = 6, tests: int = 2) -> Pointer:
    """JSON files whose keys differ in capitalisation, as users report."""
    for folder, count in (("train_set", each), ("validation_set", tests)):
        place = root / "human_annotated" / folder
        (place / "annotations").mkdir(parents=True, exist_ok=True)
        for number in range(8 * count):
            noise(place / "images" / f"{number}.jpg", number + (1000 if folder == "validation_set" else 0), 224)
            valence, arousal = MEANS[number % 8]
            about: dict[str, Any] = {
                "valence": valence,
                "Arousal": arousal,
                "landmark-68": np.linspace(20, 200, 136).reshape(68, 2).tolist(),
            }
            content = {"human-label": number % 8, "soft-label": [0.125] * 8, "subset": 0, "meta-data": about}
            if number % 2:
                content = {"Human-Label": number % 8, "Meta-Data": {"Valence": valence, "AROUSAL": arousal, "Landmark-68": None}}
            (place / "annotations" / f"{number}.json").write_text(json.dumps(content), encoding="utf-8")
    return Pointer("affectnet_plus", str(root))


def tree_folder(root: Path, each: int = 6, tests: int = 2) -> Pointer:
    """Seven grey classes, as FER2013 has them."""
    for split, count in (("train", each), ("validation", tests)):
        for code, name in enumerate(FER_CLASSES):
            for number in range(count):
                seed = 1000 * code + number + (500 if split == "validation" else 0)
                noise(root / split / name / f"{number}.jpg", seed, 48, mode="L")
    return Pointer("folder", str(root), classes=FER_CLASSES, splits={"train": "train", "validation": "test"})


TREES: dict[str, Callable[..., Pointer]] = {
    "affectnet2017": tree_2017,
    "affectnet2021": tree_2021,
    "affectnet_plus": tree_plus,
    "folder": tree_folder,
}
