"""What a data set is: a card in Markdown for people, Croissant's JSON-LD for machines; neither holds a row of its tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from affectnet.tables.annotations import ANNOTATIONS, code_meaning
from affectnet.tables.contract import Column, Contract

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "arrayShape": "cr:arrayShape",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""Croissant's context (docs.mlcommons.org/croissant, version 1.1)."""


@dataclass(frozen=True)
class Origin:
    """What is published about a data set. limits: known faults, in sentences."""

    title: str
    url: str
    licence: str
    licence_url: str
    citation: str
    limits: tuple[str, ...]


ESTIMATES = "Age, gender, race and pose are estimates of a machine, not what people say about themselves."

AFFECTNET = Origin(
    "AffectNet",
    "https://mohammadmahoor.com/affectnet/",
    "academic use only, no passing on in whole or part",
    "https://mohammadmahoor.com/affectnet/",
    "Mollahosseini, Hasani and Mahoor 2017: AffectNet, IEEE Transactions on Affective Computing, doi 10.1109/TAFFC.2017.2740923",
    (
        "Photographs come from search engines, by emotion words in six languages; most were labelled by one person.",
        "Two annotators agreed on 60.7 % of 36,000 photographs.",
        "Training is skewed 36 to 1, Happy against Contempt; the official validation list has 500 of each.",
    ),
)

DEMO = Origin(
    "The demo: drawn faces",
    "",
    "MIT",
    "https://opensource.org/license/mit",
    "drawn by this pipeline; nothing to cite",
    ("The faces are drawings: scores say nothing about people.",),
)

FER2013 = Origin(
    "FER2013",
    "https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge",
    "published for research; the pictures belong to their owners on the web",
    "https://www.kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge",
    "Goodfellow et al. 2013: Challenges in Representation Learning, arXiv 1307.0414",
    (
        "Grey faces of 48 px from web searches; some images show no face, and many labels are wrong.",
        "Human accuracy is reported as 65 ± 5 %.",
    ),
)

RAF_DB = Origin(
    "RAF-DB, basic expressions",
    "http://www.whdeng.cn/RAF/model1.html",
    "academic use only",
    "http://www.whdeng.cn/RAF/model1.html",
    "Li, Deng and Du 2017: Reliable Crowdsourcing and Deep Locality-Preserving Learning for Expression Recognition in the Wild, CVPR",
    ("About 40 annotators per photograph; the label is the most frequent one.",),
)

PLUS = Origin(
    "AffectNet+",
    AFFECTNET.url,
    AFFECTNET.licence,
    AFFECTNET.licence_url,
    "Fard, Hosseini, Sweeny and Mahoor 2024: AffectNet+, arXiv 2410.22506",
    (*AFFECTNET.limits, ESTIMATES),
)

OWN = Origin("A data set of the user's", "", "not recorded here", "", "not recorded here", ())
"""For layouts that any data set can have."""

ORIGINS: Mapping[str, Origin] = {
    "demo": DEMO,
    "affectnet2017": AFFECTNET,
    "affectnet2021": AFFECTNET,
    "affectnet_plus": PLUS,
    "fer2013": FER2013,
    "fer2013_csv": FER2013,
    "raf_db": RAF_DB,
}
"""By the entry of `datasets` in params.yaml."""


OFFICIAL_LISTS = ("demo", "drawn", "affectnet2017", "affectnet2021", "affectnet_plus")
"""The layouts whose test split is the official validation list, and whose validation is cut from the official training list.

The demo's is `demo` in params.yaml and `drawn` in its pointer.
"""


def origin_of_test(layout: str, test_share: float | None) -> str:
    """Where the test faces come from. test_share: of the entry of `datasets`, the share that `clean` cuts off, None where it cuts none."""
    if test_share is not None:
        return f"a share of {test_share:g} of the training faces, cut off by `clean`"
    return (
        "the official validation list" if layout in OFFICIAL_LISTS else "the source's test split, or its validation split where it has none"
    )


def card(name: str, layout: str, test_share: float | None, counts: Mapping[str, Any], table: str, sha256: str) -> str:
    """The card in Markdown.

    name: the entry of `datasets`; test_share: as for `origin_of_test`; counts: metrics/clean.json; table: the file of annotations, and its
    SHA-256.
    """
    origin = ORIGINS.get(name, OWN)
    validation = "cut from the official training list" if layout in OFFICIAL_LISTS else "the source's, or cut from its training faces"
    lines = [f"# Data card: {origin.title}", "", f"Entry `{name}` of `datasets` in params.yaml, layout `{layout}`.", ""]
    lines += ["| | |", "|---|---|", f"| source | {origin.url or 'not recorded here'} |", f"| licence | {origin.licence} |"]
    lines += [f"| to cite | {origin.citation} |", f"| processed table | `{table}`, SHA-256 `{sha256}` |", "", "## What was kept", ""]
    lines += [f"{counts['read']:,} rows read, {counts['kept']:,} kept, {counts['rejected']:,} rejected.", ""]
    lines += [*_by_split(counts["by_split"]), "", "| rejected by | rows |", "|---|---|"]
    lines += [f"| `{reason}` | {rows:,} |" for reason, rows in counts["rejected_by"].items()] or ["| none | 0 |"]
    lines += ["", f"Reasons: docs/data.md. `validation` is {validation}; `test` is {origin_of_test(layout, test_share)}.", ""]
    lines += ["## Known faults and limits", "", *(f"* {limit}" for limit in origin.limits)]
    lines += [f"* {rows:,} kept rows are without {name.removeprefix('without_').replace('_', ' ')}." for name, rows in _without(counts)]
    lines += ["* An expression is not an emotion: a label says what people saw in a face, not what the person felt.", ""]
    return "\n".join(lines)


def _by_split(by_split: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    splits = list(by_split)
    yield f"| faces | {' | '.join(splits)} |"
    yield f"|---|{'---|' * len(splits)}"
    for label in by_split[splits[0]]:
        yield f"| {label} | {' | '.join(f'{by_split[split][label]:,}' for split in splits)} |"


def _without(counts: Mapping[str, Any]) -> list[tuple[str, int]]:
    return [(key, rows) for key, rows in counts.items() if key.startswith("without_") and rows]


def croissant_of(name: str, labels: Sequence[str], table: Path, sha256: str) -> dict[str, Any]:
    """Croissant 1.1 of the table of annotations: its file by hash, its columns, and the labels; no row of the table.

    name: the entry of `datasets`.
    """
    origin = ORIGINS.get(name, OWN)
    file_id = table.name
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": f"{name} as cleaned",
        "description": f"{origin.title}: annotations that passed every rule of the pipeline. {' '.join(origin.limits)}",
        "url": origin.url or f"urn:affectnet-pipeline:{name}",
        "license": origin.licence_url or origin.licence,
        "citeAs": origin.citation,
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": file_id,
                "name": file_id,
                "description": "Not distributed: made from your copy by `dvc repro clean`.",
                "contentUrl": f"data/{file_id}",
                "encodingFormat": "application/vnd.apache.parquet",
                "sha256": sha256,
            }
        ],
        "recordSet": [_records(ANNOTATIONS, file_id, labels), _labels(labels)],
    }


def _records(contract: Contract, file_id: str, labels: Sequence[str]) -> dict[str, Any]:
    fields = [_field(column, contract.title, file_id, labels) for column in contract.columns if not pa.types.is_map(column.type)]
    return {"@type": "cr:RecordSet", "@id": contract.title, "name": contract.title, "description": contract.row, "field": fields}


def _field(column: Column, record_set: str, file_id: str, labels: Sequence[str]) -> dict[str, Any]:
    meaning = code_meaning(labels) if column.coded else column.meaning
    nested = pa.types.is_fixed_size_list(column.type)
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": f"{record_set}/{column.name}",
        "name": column.name,
        "description": meaning + (f", {column.unit}" if column.unit else ""),
        "dataType": _data_type(column.type.value_type if nested else column.type),
        "source": {"fileObject": {"@id": file_id}, "extract": {"column": column.name}},
    }
    if nested:
        field |= {"isArray": True, "arrayShape": str(column.type.list_size)}
    if column.name == "expression":
        field["references"] = {"field": {"@id": "labels/code"}}
    return field


def _data_type(kind: pa.DataType) -> str:
    if pa.types.is_string(kind):
        return "sc:Text"
    return "sc:Integer" if pa.types.is_integer(kind) else "sc:Float"


def _labels(labels: Sequence[str]) -> dict[str, Any]:
    fields = [
        {"@type": "cr:Field", "@id": f"labels/{field}", "name": field, "description": meaning, "dataType": kind}
        for field, meaning, kind in (("code", "the code", "sc:Integer"), ("name", "its name", "sc:Text"))
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "labels",
        "name": "labels",
        "description": "The labels by code.",
        "key": {"@id": "labels/code"},
        "field": fields,
        "data": [{"labels/code": code, "labels/name": label} for code, label in enumerate(labels)],
    }
