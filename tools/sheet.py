"""The contact sheet of drawn faces: `python -m tools.sheet docs/demo_faces.png`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from affectnet.errors import UserError, exit_code
from affectnet.expressions import EXPRESSIONS
from affectnet.synthetic.actions import draw_actions
from affectnet.synthetic.photograph import draw_photograph, draw_scene

TILE, HEADING, ROWS = 128, 22, 5


def contact_sheet(seed: int) -> Image.Image:
    """ROWS photographs of each expression as the demo draws them, cut to their boxes; the first row at full intensity."""
    sheet = Image.new("RGB", (TILE * len(EXPRESSIONS), HEADING + TILE * ROWS), "white")
    brush, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, expression in enumerate(EXPRESSIONS):
        brush.text((column * TILE + TILE / 2, HEADING / 2), expression, "black", font, anchor="mm")
        for row in range(ROWS):
            generator = np.random.default_rng([seed, column, row])
            actions = draw_actions(expression, generator, 1.0 if row == 0 else None)
            shot = draw_photograph(actions, generator, draw_scene(generator, 200, 400))
            left, top, side = shot.box
            face = shot.image.convert("RGB").crop((left, top, left + side, top + side)).resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(face, (column * TILE, HEADING + row * TILE))
    return sheet


def main() -> None:
    if len(sys.argv) != 2:
        raise UserError("python -m tools.sheet: give one argument, the PNG to write")
    contact_sheet(seed=17).quantize(256, dither=Image.Dither.NONE).save(Path(sys.argv[1]), optimize=True)


if __name__ == "__main__":
    raise SystemExit(exit_code(main))
