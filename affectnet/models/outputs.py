"""What a model predicts for faces, whichever engine computes it, and the views of a face that it can average over."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from affectnet.errors import UserError

BATCH = 256

Averaging = Literal["none", "flip", "ten_crop"]
"""Views of a face whose outputs are averaged: the face; the face and its mirror image; ten parts of it, the corners and the centre, each

CROP_SHARE of a side, and their mirror images."""

CROP_SHARE: Final = 7 / 8
"""Side of a part in `ten_crop`, as a share of the face's side: 224 of 256 px (Krizhevsky et al. 2012, section 4.1)."""


@dataclass(frozen=True)
class Outputs:
    """logits (n, k) float32 of the k expressions; affect (n, 2) float32, valence and arousal in −1 … 1, or (n, 0)."""

    logits: NDArray[np.float32]
    affect: NDArray[np.float32]

    def require_finite(self, model: Path | str) -> "Outputs":
        """Returns itself. Errors: UserError, with the model's name, when an output is NaN or inf."""
        broken = int((~np.isfinite(np.concatenate([self.logits, self.affect], 1))).any(1).sum())
        if broken:
            raise UserError(f"{model}: outputs are NaN or inf for {broken:,} of {len(self.logits):,} faces; train another model")
        return self
