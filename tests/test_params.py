from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from affectnet.errors import UserError
from affectnet.params import Section, parse, read_document


class Circle(Section):
    shape: Literal["circle"]
    radius: float = Field(gt=0)


class Square(Section):
    shape: Literal["square"]
    side: int


class StageParams(Section):
    figure: Annotated[Circle | Square, Field(discriminator="shape")]
    task: Literal["a", "b"]
    count: int = Field(ge=1)


def document(**changes: Any) -> dict[str, Any]:
    figures = {"round": {"shape": "circle", "radius": 1.5}, "flat": {"shape": "square", "side": 2}}
    return {"figure": "round", "figures": figures, "task": "a", "draw": {"count": 3}, **changes}


def problems(**changes: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        parse(document(**changes), "draw", StageParams)
    return list(caught.value.problems)


def test_a_switch_selects_its_catalogue_entry() -> None:
    params = parse(document(), "draw", StageParams)
    assert isinstance(params.figure, Circle) and params.figure.radius == 1.5
    assert isinstance(parse(document(figure="flat"), "draw", StageParams).figure, Square)


def test_every_problem_is_reported_at_once_by_its_dotted_name() -> None:
    figures = {"round": {"shape": "circle", "radius": -1.0}}
    assert problems(figures=figures, task="c", draw={"count": 0, "cuont": 1}) == [
        "params.yaml: figures.round.radius: input should be greater than 0, got -1.0",
        "params.yaml: task: input should be 'a' or 'b', got 'c'",
        "params.yaml: draw.count: input should be greater than or equal to 1, got 0",
        "params.yaml: draw.cuont: unknown; check the spelling",
    ]


def test_an_unknown_switch_names_the_choices_and_nothing_else() -> None:
    assert problems(figure="triangle") == ["params.yaml: figure: no entry 'triangle' under figures; choose one of round, flat"]


def test_a_missing_param_and_a_missing_section_are_named() -> None:
    assert problems(draw={}) == ["params.yaml: draw.count: missing; give it a value"]
    assert "params.yaml: draw: the section is missing" in problems(draw=None)


@pytest.mark.parametrize("value", ["3", 3.0, True, None, float("nan")])
def test_types_are_strict(value: object) -> None:
    assert problems(draw={"count": value})[0].startswith("params.yaml: draw.count: ")


def test_a_file_that_is_missing_or_no_yaml_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    for content in (None, b"a: [", b"- 1\n", b"\xff\xfe\x00", b"[" * 5000):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            read_document(path)
        assert "\n" not in str(caught.value)


def test_numbers_are_read_as_dvc_writes_them(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("a: 1e-05\nb: 1e-3\n")
    assert read_document(tmp_path / "p.yaml") == {"a": 1e-05, "b": 1e-3}
