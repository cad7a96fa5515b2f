"""The page of `affectnet demo` as HTML: the faces of a photograph, the predictions, the model and its limits."""

from collections.abc import Sequence
from dataclasses import replace
from html import escape

from affectnet.images.crop_policy import Box
from affectnet.images.data_uri import data_uri
from affectnet.images.decode import Pixels
from affectnet.images.resize import resized
from affectnet.models.metadata import ModelMetadata
from affectnet.predict.annotate import annotated
from affectnet.predict.predictor import Crops, Face
from affectnet.predict.writers import label
from affectnet.reporting.model_facts import model_facts

SHOWN_PX = 640
"""Longest side of the photograph on the page."""
JPEG_QUALITY = 90

HEAD = """<header><h1>Facial expressions</h1>
<p>Faces are detected in a photograph, and a model of this pipeline predicts the expression of each.</p></header>"""

INVITATION = "# Drop a photograph here\nor click to choose one; at most 20 MB"
WAITING = '<div class="empty"><p>Choose a photograph, paste one, or take one with the webcam. Its faces appear here.</p></div>'

NO_FACE = """<div class="wrong" role="alert"><p>No face was detected. The prediction is for the whole photograph, as if it were a face;
it means something only if it is one.</p></div>"""

NOT_EMOTION = """<section aria-labelledby="not"><h2 id="not">What this is not</h2>
<p>An expression is not an emotion. The model names what a face shows to people who label photographs; what a person feels, means or is
cannot be read from it, and it is no basis for decisions about people.
Two annotators of AffectNet agreed on 60.7&nbsp;% of its faces.</p>
<p>Photographs stay on this machine. Each is removed once its faces are predicted; nothing is logged or sent anywhere.</p></section>"""

CSS = """
.gradio-container {max-width: 1120px !important; margin: 0 auto !important;
  --ink: #1c2733; --soft: #52606d; --line: #cfd8e0; --plain: #edf1f4; --full: #1f6f8b; --dot: #b3261e}
.dark .gradio-container, .gradio-container.dark {
  --ink: #e8edf2; --soft: #a9b5c0; --line: #3b4753; --plain: #242d36; --full: #6bbad3; --dot: #ff8a80}
.gradio-container .html-container {padding: 0 !important}
.gradio-container .prose {color: var(--ink); font-size: 15px; line-height: 1.5}
.prose h1 {font-size: 26px; font-weight: 600; margin: 12px 0 2px; color: var(--ink)}
.prose h2 {font-size: 17px; font-weight: 600; margin: 0 0 6px; color: var(--ink)}
.prose p {color: var(--soft); margin: 0 0 8px}
#layout {display: grid; grid-template: "input result" auto "about result" 1fr / minmax(280px, 350px) 1fr; gap: 24px 40px;
  align-items: start}
#input {grid-area: input} #result {grid-area: result} #about {grid-area: about; gap: 22px}
@media (max-width: 760px) {#layout {grid-template: "input" "result" "about" / 1fr}}
#photograph .wrap, #photograph .or {color: var(--soft)}
#photograph .source-selection button {color: var(--soft)}
#photograph .source-selection button.selected {color: var(--full)}
.prose .empty {border: 1px dashed var(--line); border-radius: 10px; min-height: 300px; display: grid; place-items: center; padding: 24px;
  text-align: center}
.prose .wrong {border-left: 4px solid var(--dot); background: var(--plain); border-radius: 6px; padding: 12px 16px}
.prose .wrong p {color: var(--ink); margin: 0}
.prose .shot {position: relative; margin: 0 0 16px; width: fit-content}
.prose .shot img {display: block; max-width: 100%; max-height: 400px; border-radius: 10px; margin: 0}
.prose .shot label {position: absolute; cursor: pointer}
.prose fieldset {border: 0; margin: 0 0 16px; padding: 0; display: flex; flex-wrap: wrap; gap: 8px}
.prose fieldset[hidden] {display: none}
.prose legend {float: left; margin: 5px 8px 0 0; padding: 0; color: var(--soft)}
.prose fieldset label {display: inline-flex; align-items: center; gap: 7px; border: 1px solid var(--line); border-radius: 18px;
  padding: 3px 14px 3px 10px; cursor: pointer; color: var(--ink)}
.prose fieldset label:has(:checked) {border-color: var(--full); box-shadow: inset 0 0 0 1px var(--full)}
.prose fieldset label:has(:focus-visible) {outline: 3px solid var(--full); outline-offset: 2px}
.prose fieldset input {appearance: auto; accent-color: var(--full); margin: 0; border: 0; box-shadow: none; background: none; outline: 0}
.prose .face {display: none; grid-template-columns: minmax(250px, 1fr) 230px; gap: 6px 36px; align-items: start}
.prose .face > h2, .prose .face > p {grid-column: 1 / -1}
@media (max-width: 1000px) {.prose .face {grid-template-columns: 1fr}}
.prose table.bars {width: 100%; border-collapse: collapse; margin: 0; border: 0; font-size: 15px; display: table}
.prose table.bars tr, .prose table.bars th, .prose table.bars td {border: 0; background: none; padding: 4px 0; color: var(--ink)}
.prose table.bars th {font-weight: 400; text-align: left; width: 6em}
.prose table.bars td:last-child {text-align: right; width: 3em; font-variant-numeric: tabular-nums}
.prose .bar {display: block; height: 12px; border-radius: 6px; background: var(--plain); overflow: hidden}
.prose .bar i {display: block; height: 100%; background: var(--full)}
.prose table.bars .top th, .prose table.bars .top td {font-weight: 600}
.prose figure {margin: 0 auto; width: 230px; max-width: 100%}
.prose figure svg {width: 100%; height: auto; display: block}
.prose figure text {fill: var(--soft); font-size: 13px}
.prose figcaption {color: var(--soft); font-size: 13px; text-align: center}
.prose .crop {display: flex; gap: 12px; align-items: center; margin-top: 12px}
.prose .crop img {width: 56px; height: 56px; border-radius: 6px; margin: 0; image-rendering: pixelated}
.prose .crop p {font-size: 13px; margin: 0}
.prose dl {display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; margin: 0}
.prose dt {color: var(--soft); font-weight: 400}
.prose dd {margin: 0; color: var(--ink); overflow-wrap: anywhere}
"""


def result(pixels: Pixels, crops: Crops, faces: Sequence[Face]) -> str:
    """The photograph with its faces framed and numbered, a choice among them, and the prediction for each.

    pixels: the photograph as displayed; crops: as the network saw them; faces: the predictions, in the same order.
    """
    small, scale = _shown(pixels)
    on_page = [replace(face, box=_scaled(face.box, scale)) for face in faces]
    numbers = [str(number) for number in range(1, len(faces) + 1)]
    height, width = small.shape[:2]
    labels = "".join(_click_area(number, face, width, height) for number, face in zip(numbers, on_page, strict=True))
    alt = f"The photograph, {len(faces)} {'face' if len(faces) == 1 else 'faces'} framed and numbered"
    address = data_uri(annotated(small, on_page, [[number] for number in numbers]), "JPEG", quality=JPEG_QUALITY, subsampling=0)
    picture = f'<div class="shot"><img alt="{alt}" src="{address}">{labels}</div>'
    shown = ", ".join(f".prose:has(#face-{number}:checked) .face-{number}" for number in numbers) + " {display: grid}"
    chosen = ", ".join(f".prose:has(#face-{number}:checked) .shot [for=face-{number}]" for number in numbers)
    choice = "".join(
        f'<label><input type="radio" name="face" id="face-{number}"{" checked" * (number == "1")}>'
        f"{number} {escape(face.expression or '')}</label>"
        for number, face in zip(numbers, faces, strict=True)
    )
    choice = f"<fieldset{' hidden' * (len(faces) == 1)}><legend>Face</legend>{choice}</fieldset>"
    panels = "".join(_panel(number, face, crop.pixels) for number, crop, face in zip(numbers, crops, faces, strict=True))
    return f'<style>{shown} {chosen} {{outline: 2px solid #fff}}</style>{picture}{choice}<div role="status">{panels}</div>'


def message(text: str) -> str:
    """An error in one line, which screen readers read out."""
    return f'<div class="wrong" role="alert"><p>{escape(text)}</p></div>'


def about(metadata: ModelMetadata) -> str:
    """A section that describes the model: its labels in order, input, data and scores on its validation split."""
    facts = model_facts(metadata)
    names = (*metadata.about, "expressions", "affect", "network", "input", "crop", "data", "validation")
    rows = "".join(f"<dt>{name.capitalize()}</dt><dd>{escape(facts[name])}</dd>" for name in names)
    return f'<section aria-labelledby="model"><h2 id="model">The model</h2><dl>{rows}</dl></section>'


def _scaled(box: Box, scale: float) -> Box:
    left, top, right, bottom = box
    return (left / scale, top / scale, right / scale, bottom / scale)


def _shown(pixels: Pixels) -> tuple[Pixels, float]:
    """The photograph at the size of the page, and the factor by which it was larger."""
    scale = max(1.0, max(pixels.shape[:2]) / SHOWN_PX)
    width, height = (max(1, round(side / scale)) for side in (pixels.shape[1], pixels.shape[0]))
    return resized(pixels, width, height), scale


def _click_area(number: str, face: Face, width: int, height: int) -> str:
    """A label over the face in the photograph that selects it."""
    left, top, right, bottom = face.box
    sides = {"left": left / width, "top": top / height, "width": (right - left) / width, "height": (bottom - top) / height}
    style = ";".join(f"{side}:{share:.2%}" for side, share in sides.items())
    return f'<label for="face-{number}" style="{style}" title="Face {number}"></label>'


def _panel(number: str, face: Face, crop: Pixels) -> str:
    parts = [f"<h2>Face {number}: {escape(label(face, ', '))}</h2>", f"<div>{_bars(face)}{_crop(crop)}</div>"]
    if face.valence is None or face.arousal is None:
        parts.append("<p>This model predicts no valence and arousal.</p>")
    else:
        parts.append(_circle(face.valence, face.arousal))
    return f'<section class="face face-{number}" aria-label="Face {number}">{"".join(parts)}</section>'


def _bars(face: Face) -> str:
    if not face.probabilities:
        return "<p>This model predicts no expressions.</p>"
    rows = "".join(
        f'<tr{" class=top" * (name == face.expression)}><th scope="row">{escape(name)}</th>'
        f'<td aria-hidden="true"><span class="bar"><i style="width:{share:.1%}"></i></span></td><td>{share:.2f}</td></tr>'
        for name, share in face.probabilities.items()
    )
    return f'<table class="bars" aria-label="Probability of each expression"><tbody>{rows}</tbody></table>'


def _crop(crop: Pixels) -> str:
    caption = f"Input of the network: {crop.shape[1]} × {crop.shape[0]} px."
    return f'<div class="crop"><img alt="" src="{data_uri(crop, "PNG")}"><p>{caption}</p></div>'


def _circle(valence: float, arousal: float) -> str:
    """Valence across, arousal up (Russell 1980), as SVG."""
    caption = f"valence {valence:+.2f}, arousal {arousal:+.2f}"
    return (
        f'<figure><svg viewBox="-130 -122 260 244" role="img" aria-label="{caption}"><g fill="none" stroke="var(--line)">'
        '<circle r="100" fill="var(--plain)"/><circle r="50"/><path d="M-100 0h200M0-100v200"/></g>'
        '<g text-anchor="middle"><text y="-106">aroused</text><text y="115">calm</text>'
        '<text transform="translate(-108 0) rotate(-90)">unpleasant</text><text transform="translate(108 0) rotate(90)">pleasant</text></g>'
        f'<circle cx="{100 * valence:.1f}" cy="{-100 * arousal:.1f}" r="7" fill="var(--dot)" stroke="var(--background-fill-primary)" '
        f'stroke-width="2"/></svg><figcaption>{caption}</figcaption></figure>'
    )
