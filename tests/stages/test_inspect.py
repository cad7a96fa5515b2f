import base64
import hashlib
import io
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlcroissant
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from chain import ROOT, annotations, local, metrics, refused, run_stage
from pages import Page
from PIL import Image
from test_acquire import NEVER_SEEN, own
from test_clean import DIRT, clean, copies, dirty, permuted_2017  # noqa: F401 (a fixture)
from trees import download_fer2013_csv, download_huggingface, images_2017, noise, row, tree_2017, tree_folder, write_2017

from affectnet.expressions import CLASS_MEANS, EXPRESSIONS
from affectnet.reporting.data_card import croissant_of, origin_of_test
from affectnet.tables.annotations import ANNOTATIONS, REJECTED
from affectnet.tables.source_pointer import Pointer
from stages import acquire
from stages.inspect import BEYOND_COLOUR, BOX_COLOUR, THUMBNAIL_PX, thumbnail

PAGE = Path("data/cleaning.html")
HOSTILE = "1/'><img src=x onerror=alert(1)>&amp;{{ 7 * 7 }}.jpg"


def inspected(pointer: Pointer, examples: int = 6, **changes: object) -> tuple[Page, str]:
    """The parsed page of a download, and the stage's summary line. changes: of section `clean`."""
    shutil.copytree(ROOT / "stages" / "templates", "stages/templates", dirs_exist_ok=True)
    clean(pointer, **changes)
    return (Page(PAGE), line) if (line := run_stage("inspect", examples=examples)) else (Page(PAGE), "")


def pictures(page: Page) -> list[np.ndarray]:
    """The decoded thumbnails, in order."""
    uris = [str(attributes["src"]) for tag, attributes in page.tags if tag == "img"]
    assert all(uri.startswith("data:image/jpeg;base64,") for uri in uris)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))) for uri in uris]


def section(start: str, end: str) -> str:
    """The page's source between two headings."""
    return PAGE.read_text().partition(start)[2].partition(end)[0]


def test_each_reason_shows_its_photographs_with_their_boxes(dirty: Pointer) -> None:  # noqa: F811
    page, line = inspected(dirty, landmarks="reject", valence_arousal="reject")
    text = PAGE.read_text()
    for reason in DIRT:
        assert f'<h3 id="{reason}">' in text
    without_picture = {"missing", "empty"}
    shown = section("<h2>Rejected photographs", "<h2>Near duplicates")
    assert shown.count("<img") == len(DIRT) - len(without_picture) and shown.count('class="none"') == len(without_picture)
    assert max(max(picture.shape[:2]) for picture in pictures(page)) <= THUMBNAIL_PX
    assert f"{len(DIRT)} rejected" in "".join(page.texts) and line.startswith("inspect: ")
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert not re.search(r"url\(|@import|https?:", text.replace("http://www.w3.org/2000/svg", ""))


def test_a_rejected_row_keeps_its_label_and_box(dirty: Pointer) -> None:  # noqa: F811
    clean(dirty)
    rows = {one["reason"]: one for one in REJECTED.read(Path("data/rejected.parquet")).to_pylist()}
    boxes = {reason: tuple(rows[reason][edge] for edge in ("left", "top", "right", "bottom")) for reason in ("box_beyond", "null_box")}
    assert boxes == {"box_beyond": (500, 10, 570, 80), "null_box": (None,) * 4}
    assert [rows[f"expression_{name}"]["expression"] for name in ("none", "uncertain", "no_face", "unknown")] == [8, 9, 10, 42]


def test_an_order_that_emonets_rules_hide_is_not_called_right(workspace: Path) -> None:
    page, _ = inspected(permuted_2017(workspace / "root", [0, 2, 1, 3, 4, 5, 6, 7]), emonet_rules=True)
    assert "another label order fitted better before EmoNet’s rules" in "".join(page.texts).replace("'", "’")
    assert "No other label order fits better." not in "".join(page.texts)


def test_duplicates_stand_next_to_the_photograph_that_they_are_like(workspace: Path) -> None:
    page, _ = inspected(copies(workspace / "root"))
    rejected_part = section("<h2>Rejected photographs", "<h2>Near duplicates")
    for reason, names in (("near_duplicate_of_test", ["t3", "t"]), ("copy_of_test", ["t2", "t"]), ("exact_duplicate", ["b", "a"])):
        assert re.findall(r"1/(\w+)\.jpg", re.split("<h[23]", section(f'<h3 id="{reason}">', "</main>"))[0]) == names
    assert "Neutral, test</b><br>0 of 128 bits differ" in rejected_part and "Happy, train</b><br>0 of 128 bits differ" in rejected_part
    kept = section("<h2>Near duplicates", "<h2>Boxes")
    assert "1 of 1 groups" in kept and sorted(re.findall(r"1/(\w+)\.jpg", kept)) == ["a", "c"]
    assert len(pictures(page)) == PAGE.read_text().count("<img")


def test_the_number_of_photographs_is_bounded_and_chosen_by_the_seed(workspace: Path) -> None:
    pointer = tree_2017(workspace / "root", each=6)
    page, _ = inspected(pointer, examples=2, expressions=["Neutral", "Happy"])
    first = PAGE.read_bytes()
    assert section('<h3 id="expression_left_out">', "<h2").count("<img") == 2 and "2 of 48" in "".join(page.texts)
    run_stage("inspect", examples=2)
    assert PAGE.read_bytes() == first
    run_stage("inspect", examples=2, seed=1)
    assert PAGE.read_bytes() != first
    run_stage("inspect", examples=0)
    assert "<img" not in PAGE.read_text() and "0 of 48" in PAGE.read_text()


def test_boxes_beyond_edges_are_counted_and_shown_with_what_lies_beyond(workspace: Path) -> None:
    root = workspace / "root"
    boxes = ["-20,10,70,70", "60,10,70,70", "0,0,96,96", "10,10,70,70"]
    for number in range(len(boxes) + 1):
        noise(images_2017(root) / "1" / f"{number}.jpg", number)
    rows = [row(f"1/{number}.jpg", box=box) for number, box in enumerate(boxes)]
    inspected(write_2017(root, rows, [row("1/4.jpg")]))
    beyond = section("<h2>Boxes beyond", "</main>")
    assert "2 of 2" in beyond and [float(share) for share in re.findall(r"<br>(\d+) % beyond", beyond)] == [49, 29]
    assert re.findall(r"1/(\d)\.jpg", beyond) == ["1", "0"]


def test_a_thumbnail_has_the_box_where_it_is() -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    drawn = thumbnail(pixels, (400, 200), (100.0, 50.0, 300.0, 150.0))
    assert drawn.shape == (72, 144, 3)  # 0.36 of the photograph
    yellow = np.argwhere((drawn == BOX_COLOUR).all(2))
    assert yellow.min(0).tolist() == [18, 36] and yellow.max(0).tolist() == [54, 108]
    beyond = thumbnail(pixels, (400, 200), (-400.0, 0.0, 400.0, 200.0))
    assert beyond.shape == (36, 144, 3) and (beyond[10, 10:60] == BEYOND_COLOUR).all() and (beyond[10, 80:140] == 0).all()
    for box in ((900.0, 10.0, 970.0, 80.0), (10.0, 10.0, 10.0, 80.0), (-1e30, -1e30, 1e30, 1e30), (50.0, 60.0, 10.0, 20.0)):
        assert max(thumbnail(pixels, (400, 200), box).shape) <= THUMBNAIL_PX


def test_an_exchanged_label_order_is_on_the_page(workspace: Path) -> None:
    order = [0, 1, 2, 6, 4, 5, 3, 7]  # Surprise and Anger exchanged
    root, rows = workspace / "root", []
    for number in range(64):
        noise(images_2017(root) / "1" / f"{number}.jpg", number)
        rows.append(row(f"1/{number}.jpg", expression=number % 8, va="{},{}".format(*CLASS_MEANS[order[number % 8]])))
    page, _ = inspected(write_2017(root, rows[:56], rows[56:]))
    assert "Surprise looks like Anger" in "".join(page.texts)
    kept = [one for one in annotations() if one["expression"] == 3]
    assert f"<td>{len(kept)}</td><td>{kept[0]['valence']:+.2f}</td><td>{kept[0]['arousal']:+.2f}</td>" in PAGE.read_text()


def test_a_hostile_file_name_stays_text(workspace: Path) -> None:
    root = workspace / "root"
    tree = tree_2017(root)
    noise(images_2017(root) / HOSTILE, 999)
    lines = (root / "Manually_Annotated_file_lists" / "training.csv").read_text().splitlines()[1:]
    page, _ = inspected(write_2017(Path(tree.root), [*lines, row(HOSTILE, expression=9)], [row(lines[0].split(",")[0])]))
    assert any(HOSTILE in text for text in page.texts) and "<img src=x" not in PAGE.read_text() and "49.jpg" not in PAGE.read_text()


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "a photograph that changed": (
        lambda: [path.write_bytes(b"changed") for path in Path("root").rglob("*.jpg")],
        "has changed since verify read it",
    ),
    "no photographs": (lambda: shutil.rmtree("root"), "is the disk mounted"),
    "no counts": (lambda: Path("metrics/clean.json").unlink(), "metrics/clean.json: missing; run `dvc repro`"),
    "rejected rows of an earlier version": (
        lambda: pq.write_table(pq.read_table("data/rejected.parquet").drop_columns(["left"]), "data/rejected.parquet"),
        "columns left are missing; run `dvc repro`",
    ),
    "no template": (lambda: Path("stages/templates/cleaning.html").unlink(), r"cleaning\.html: missing; `git restore"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_input_is_one_line(dirty: Pointer, name: str) -> None:  # noqa: F811
    inspected(dirty)
    make, message = MISTAKES[name]
    make()
    with refused(message):
        run_stage("inspect")
    assert pc.count(pq.read_table("data/annotations.parquet")["image"]).as_py()


def test_the_card_says_where_test_comes_from(workspace: Path) -> None:
    inspected(tree_2017(workspace / "root"))
    assert "`test` is the official validation list." in Path("metrics/data_card.md").read_text()
    committed = (ROOT / "metrics" / "data_card.md").read_text()
    assert "layout `drawn`" in committed and f"`test` is {origin_of_test('drawn', None)}." in committed
    for test_share, tests, said in ((None, 3, "the source's test split"), (0.25, 0, "a share of 0.25 of the training faces, cut off by")):
        inspected(replace(tree_folder(workspace / said, each=8, tests=tests), test_share=test_share))
        card = Path("metrics/data_card.md").read_text()
        assert said in card and "official" not in card


@pytest.mark.parametrize(("download", "layout"), [(download_fer2013_csv, "fer2013_csv"), (download_huggingface, "huggingface")])
def test_the_card_names_the_layout_of_params_for_a_download_that_is_unpacked(
    workspace: Path, download: Callable[[Path], Pointer], layout: str
) -> None:
    root = download(workspace / "root").root
    acquire.run(own(layout, root=root, expected=None), local(), NEVER_SEEN, raw=Path("data/raw"))
    inspected(Pointer.read(Path("data/raw")))
    assert f"Entry `{layout}` of `datasets` in params.yaml, layout `{layout}`." in Path("metrics/data_card.md").read_text()


def test_the_cards_say_what_the_data_are_and_hold_no_row(workspace: Path) -> None:
    inspected(tree_2017(workspace / "root", tests=3))
    card, counts = Path("metrics/data_card.md").read_text(), metrics("clean")
    digest = hashlib.sha256(Path("data/annotations.parquet").read_bytes()).hexdigest()
    assert f"{counts['read']:,} rows read, {counts['kept']:,} kept" in card and digest in card
    assert all(f"| {name} | " in card for name in EXPRESSIONS) and "An expression is not an emotion" in card
    dataset = mlcroissant.Dataset(jsonld="metrics/croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    described, _ = dataset.metadata.record_sets
    assert {field.name for field in described.fields} == {column.name for column in ANNOTATIONS.columns if not pa.types.is_map(column.type)}
    assert [row["labels/name"] for row in dataset.records("labels")] == list(EXPRESSIONS)
    text = Path("metrics/croissant.json").read_text()
    assert digest in text and not any(row["image"] in text + card for row in ANNOTATIONS.read(Path("data/annotations.parquet")).to_pylist())


def test_croissant_describes_the_codes_by_the_labels(workspace: Path) -> None:
    for labels in (EXPRESSIONS, ("bored", "engaged")):
        document = croissant_of("folder", labels, Path("data/annotations.parquet"), "0" * 64)
        (described,) = (field["description"] for field in document["recordSet"][0]["field"] if field["name"] == "expression")
        assert described == f"position of the label in `labels`: {', '.join(f'{code} {name}' for code, name in enumerate(labels))}"
