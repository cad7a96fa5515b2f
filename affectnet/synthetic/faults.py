"""The known faults of AffectNet, and their numbers in the demo."""

from pydantic import Field

from affectnet.params import Section


class Faults(Section):
    """Counts. Each fault adds rows or files; `training` and `validation` count only faces without faults."""

    missing: int = Field(ge=0)
    empty: int = Field(ge=0)
    truncated: int = Field(ge=0)
    not_an_image: int = Field(ge=0)
    misnamed: int = Field(ge=0)
    null_box: int = Field(ge=0)
    box_outside: int = Field(ge=0)
    box_beyond: int = Field(ge=0)
    box_empty: int = Field(ge=0)
    no_landmarks: int = Field(ge=0)
    broken_landmarks: int = Field(ge=0)
    malformed: int = Field(ge=0)
    exact_duplicates: int = Field(ge=0)
    near_duplicates: int = Field(ge=0)
    contradictory_duplicates: int = Field(ge=0)
    copies_of_validation: int = Field(ge=0)
    near_copies_of_validation: int = Field(ge=0)
    listed_twice: int = Field(ge=0)
    several_faces: int = Field(ge=0)
    none: int = Field(ge=0)
    uncertain: int = Field(ge=0)
    no_face: int = Field(ge=0)
    no_valence_arousal: int = Field(ge=0)
    contradicting_valence: int = Field(ge=0)
    exif_turned: int = Field(ge=0)
    grey: int = Field(ge=0)
    transparent: int = Field(ge=0)
    unreferenced: int = Field(ge=0)
    truncated_in_validation: int = Field(ge=0)
    thumbs: int = Field(ge=0)


ROW_FAULTS = tuple(
    name for name in Faults.model_fields if name not in {"unreferenced", "truncated_in_validation", "thumbs", "listed_twice"}
)
"""Faults that add rows to the training list, in the order of the params."""
