"""Tiny downloads of each layout: noise in place of faces, and otherwise the real formats."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from affectnet.expressions import CLASS_MEANS, EXPRESSIONS
from affectnet.sources.registry import open_layout, open_source
from affectnet.sources.unpacked import Container, unpack
from affectnet.tables.source_pointer import Pointer

LANDMARKS = ";".join(f"{value:.2f}" for value in np.linspace(10, 80, 136))
HEADER = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"
FER_CLASSES = {
    "angry": "Anger",
    "disgust": "Disgust",
    "fear": "Fear",
    "happy": "Happy",
    "neutral": "Neutral",
    "sad": "Sad",
    "surprise": "Surprise",
}


def smooth(seed: int, side: int) -> Image.Image:
    """An image of smooth noise, so that no two hashes are near."""
    cells = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((side, side), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG") -> bytes:
    """The bytes of the image's file."""
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def noise(path: Path, seed: int, side: int = 96, kind: str | None = None, mode: str = "RGB") -> None:
    """Writes an image of smooth noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = smooth(seed, side).convert(mode)
    image.save(path, kind, **({"quality": 90} if path.suffix.lower() in {".jpg", ".jpeg"} and kind is None else {}))


def row(path: str, box: str = "10,10,70,70", landmarks: str = LANDMARKS, expression: object = 0, va: str | None = None) -> str:
    if va is None:
        va = "{},{}".format(*CLASS_MEANS[int(str(expression))]) if str(expression).isdecimal() and int(str(expression)) < 8 else "-2,-2"
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
    """`each` training and `tests` validation rows of each of the eight expressions, without faults."""
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
            code, (valence, arousal) = number % 8, CLASS_MEANS[number % 8]
            values: dict[str, Any] = {"exp": str(code), "val": str(valence), "aro": arousal, "lnd": np.linspace(20, 200, 136)}
            if number % 2:
                values |= {"exp": code, "val": np.float32(valence)}
            for kind, value in values.items():
                np.save(annotations / f"{number * 3}_{kind}.npy", value)
    return Pointer("affectnet2021", str(root))


def soft_label(code: int, share: float = 0.65) -> list[float]:
    """The share for one expression; the others have equal parts of the rest."""
    return [share if other == code else (1 - share) / 7 for other in range(8)]


def tree_plus(root: Path, each: int = 6, tests: int = 2, unlabelled: int = 0) -> Pointer:
    """JSON files whose keys differ in capitalisation and nesting, as users report; `unlabelled` images without human labels.

    Image n of a set has expression n % 8, subset n % 3, an age of n % 90, and gender and race by n % 2. Of four images two have nested
    landmarks, one has flat ones, and one has none.
    """
    for folder, count in (("train_set", each), ("validation_set", tests)):
        target = root / "human_annotated" / folder
        (target / "annotations").mkdir(parents=True, exist_ok=True)
        for number in range(8 * count):
            noise(target / "images" / f"{number}.jpg", number + (1000 if folder == "validation_set" else 0), 224)
            valence, arousal = CLASS_MEANS[number % 8]
            points = np.linspace(20, 200, 136)
            about: dict[str, Any] = {"valence": valence, "Arousal": arousal, "landmark-68": points.reshape(68, 2).tolist()}
            about |= {
                "age": number % 90,
                "gender": {"Male": 0.9, "Female": 0.1},
                "race": {"asian": 0.2, "white": 0.8},
                "pose": {"Yaw": -3.5},
            }
            content = {"human-label": number % 8, "soft-label": soft_label(number % 8), "subset": number % 3, "meta-data": about}
            if number % 2:
                about = {
                    "Valence": valence,
                    "AROUSAL": arousal,
                    "Landmark-68": points.tolist() if number % 4 == 1 else None,
                    "AGE": number % 90,
                    "Gender": {"male": 3, "female": 97},
                }
                about |= {"Race": {"Asian": 0.7, "White": 0.3}, "POSE": {"yaw": 4}}
                content = {"Human-Label": number % 8, "Soft_Label": soft_label(number % 8), "SUBSET": number % 3, "Meta-Data": about}
            (target / "annotations" / f"{number}.json").write_text(json.dumps(content), encoding="utf-8")
    for number in range(unlabelled):
        noise(root / "no_human_annotated" / "images" / f"{number}.jpg", number + 2000, 224)
        file = root / "no_human_annotated" / "annotations" / f"{number}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps({"soft-label": soft_label(number % 8, 0.4), "meta-data": {"age": 30}}), encoding="utf-8")
    return Pointer("affectnet_plus", str(root), options={"no_human_annotated": unlabelled > 0})


def tree_folder(root: Path, each: int = 6, tests: int = 2) -> Pointer:
    """Seven grey classes, as in FER2013."""
    for split, count in (("train", each), ("validation", tests)):
        for code, name in enumerate(FER_CLASSES):
            for number in range(count):
                seed = 1000 * code + number + (500 if split == "validation" else 0)
                noise(root / split / name / f"{number}.jpg", seed, 48, mode="L")
    return Pointer("folder", str(root), classes=FER_CLASSES, splits={"train": "train", "validation": "test"})


def tree_raf(root: Path, each: int = 6, tests: int = 2) -> Pointer:
    """RAF-DB's list, aligned images, and original ones with their boxes; seven classes."""
    lines = []
    for split, count in (("train", each), ("test", tests)):
        for number in range(7 * count):
            name = f"{split}_{number:05d}"
            noise(root / "basic" / "Image" / "aligned" / f"{name}_aligned.jpg", number + 2000 * (split == "test"), 100)
            noise(root / "basic" / "Image" / "original" / f"{name}.jpg", number + 2000 * (split == "test") + 5000, 96)
            box = root / "basic" / "Annotation" / "boundingbox" / f"{name}_boundingbox.txt"
            box.parent.mkdir(parents=True, exist_ok=True)
            box.write_text("8.5 10.0 80.5 84.0 \n")
            lines.append(f"{name}.jpg {number % 7 + 1}\n")
    (root / "basic" / "EmoLabel").mkdir()
    (root / "basic" / "EmoLabel" / "list_patition_label.txt").write_text("".join(lines))
    return Pointer("raf_db", str(root), options={"images": "aligned"})


def tree_yolo(root: Path, each: int = 6, tests: int = 2) -> Pointer:
    """Eight classes in alphabetical order, by data.yaml, one face per image; the boxes differ."""
    for split, count in (("train", each), ("valid", tests)):
        for number in range(8 * count):
            noise(root / split / "images" / f"{number:04d}.jpg", number + 3000 * (split == "valid"), 96)
            label = root / split / "labels" / f"{number:04d}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(f"{number % 8} 0.5 0.5 {0.5 + number % 5 / 10} 0.8\n")
    (root / "data.yaml").write_text(f"train: ../train/images\nval: ../valid/images\nnc: 8\nnames: {sorted(EXPRESSIONS)}\n")
    return Pointer("yolo", str(root), classes={name: name for name in EXPRESSIONS}, splits={"train": "train", "valid": "validation"})


def download_fer2013_csv(root: Path, each: int = 6, tests: int = 2) -> Pointer:
    """`each` Training rows and `tests` PrivateTest rows of each of the seven emotions."""
    lines = ["emotion,pixels,Usage"]
    for usage, count in (("Training", each), ("PrivateTest", tests)):
        for number in range(7 * count):
            pixels = np.asarray(smooth(number + 2000 * (usage == "PrivateTest"), 48).convert("L"))
            lines.append(f"{number % 7},{' '.join(map(str, pixels.ravel()))},{usage}")
    root.mkdir(parents=True, exist_ok=True)
    (root / "fer2013.csv").write_text("\n".join(lines) + "\n")
    return Pointer("fer2013_csv", str(root), options={"test": "PrivateTest", "other": "validation"})


def features(names: list[str]) -> dict[bytes, bytes]:
    """The metadata that `datasets` writes for an image and a ClassLabel into a Parquet file."""
    kinds = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": kinds}}).encode()}


def download_huggingface(root: Path, each: int = 6, tests: int = 2) -> Pointer:
    """Two training shards and a test shard, labels in alphabetical order, their names in the metadata."""
    for split, count, shards in (("train", each, 2), ("test", tests, 1)):
        for shard in range(shards):
            numbers = range(shard, 8 * count, shards)
            images = [encoded(smooth(number + 3000 * (split == "test"), 96)) for number in numbers]
            table = pa.table(
                {
                    "image": [{"bytes": content, "path": f"{number}.jpg"} for content, number in zip(images, numbers, strict=True)],
                    "label": pa.array([number % 8 for number in numbers], pa.int64()),
                }
            )
            path = root / "data" / f"{split}-{shard:05d}-of-{shards:05d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.replace_schema_metadata(features(sorted(EXPRESSIONS))), path)
    return Pointer(
        "huggingface",
        str(root),
        classes={name: name for name in EXPRESSIONS},
        splits={"train": "train", "validation": "validation", "test": "test"},
        options={"image": "image", "label": "label"},
    )


def unpacked_rows(pointer: Pointer, folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    """The folder of a container's images, unpacked below `folder`, and its rows."""
    reader = open_layout(pointer)
    assert isinstance(reader, Container)
    images = unpack(reader, folder)
    return Path(images.root), [row for part in open_source(images).rows() for row in part.to_pylist()]


def unpacked(download: Callable[..., Pointer]) -> Callable[..., Pointer]:
    """A tree with the unpacked images of a download."""

    def tree(root: Path, each: int = 6, tests: int = 2) -> Pointer:
        reader = open_layout(download(root.with_name(f"{root.name}-download"), each, tests))
        assert isinstance(reader, Container)
        pointer = unpack(reader, root.with_name(f"{root.name}-unpacked"))
        Path(pointer.root).rename(root)
        return replace(pointer, root=str(root))

    return tree


DOWNLOADS: dict[str, Callable[..., Pointer]] = {
    "affectnet2017": tree_2017,
    "affectnet2021": tree_2021,
    "affectnet_plus": tree_plus,
    "fer2013_csv": download_fer2013_csv,
    "huggingface": download_huggingface,
    "raf_db": tree_raf,
    "yolo": tree_yolo,
    "folder": tree_folder,
}
"""Downloads as they are released, by layout."""

TREES: dict[str, Callable[..., Pointer]] = {
    **DOWNLOADS,
    "fer2013_csv": unpacked(download_fer2013_csv),
    "huggingface": unpacked(download_huggingface),
}
"""Downloads as the stages after `acquire` see them, by layout."""

CLASSES = {name: 7 if name in {"fer2013_csv", "raf_db", "folder"} else 8 for name in TREES}
"""Number of expressions per layout; seven are all but Contempt."""
