"""The page of `affectnet predict --timeline`: the faces of films over time, in one file, without a script or an address."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from affectnet.errors import UserError, many, one_line
from affectnet.files.atomic import write_text
from affectnet.images.data_uri import data_uri
from affectnet.images.decode import Pixels
from affectnet.images.video import stated_end
from affectnet.predict.films import charts
from affectnet.predict.films.curves import Curve, FilmCurves
from affectnet.predict.films.timeline_style import BEGINNING, CSS
from affectnet.predict.paths import FilmEnd
from affectnet.predict.writers import AFFECT, Answer, check_replaceable

MOST_FACES = 24
"""Per film, those that are seen for longest, and in more than one frame if there are such."""

ENLARGED_BELOW = 1 / 8
"""A face that is seen in a smaller part of the film has an axis of its own."""

MOST_NAMED, LEAST_SHARE = 3, 0.05
"""Expressions that are named as the most frequent, and their smallest share of the time."""

JPEG_QUALITY = 85

NOTE = "An expression is not an emotion: what a person feels, means or is cannot be read from it."


def check_page(path: Path) -> None:
    """Errors: UserError when the path is a folder, or a file that is not such a page."""
    check_replaceable(path, BEGINNING.encode(), "a page of timelines")


class Timeline:
    """Collects the faces of films, and writes the page. Memory grows by some 50 bytes per face and frame."""

    def __init__(self, path: Path, labels: Sequence[str], affect: bool, smooth: float | None) -> None:
        """labels, affect: what the model predicts; smooth: time constant of the predictions, as the page says."""
        self.path, self.labels, self.affect, self.smooth = path, labels, affect, smooth
        self.film = FilmCurves()
        self.films: list[tuple[str, str]] = []

    def add(self, answer: Answer, portraits: Sequence[Pixels]) -> None:
        """The next frame of a film."""
        self.film.add(answer, portraits)

    def end(self, film: FilmEnd) -> None:
        """After the last frame of a film; of one without a readable frame nothing is shown."""
        if self.film.times:
            self.film.stated_end = stated_end(film.path) if film.problem is None else None
            self.films.append((film.path, self._film(len(self.films) + 1)))
        self.film = FilmCurves()

    def write(self) -> None:
        """Errors: UserError when there was no film."""
        if not self.films:
            raise UserError(f"{self.path}: no page, for no video was read; --timeline shows videos")
        headings = _headings([path for path, _ in self.films])
        heading = headings[0] if len(self.films) == 1 else "Faces over time"
        films = "".join(
            (f"<h2>{escape(name)}</h2>" if len(self.films) > 1 else "") + content
            for name, (_, content) in zip(headings, self.films, strict=True)
        )
        names = "".join(
            f'<span><i class="{charts.css_class(self.labels, name)}"></i>{escape(name)}</span>' for name in charts.stacked(self.labels)
        )
        if self.affect:
            names += "".join(f'<span><svg viewBox="0 0 24 10"><path class="{name}" d="M0 5h24"/></svg>{name}</span>' for name in AFFECT)
        write_text(
            self.path,
            f'{BEGINNING}\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark"><meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">"
            f"<title>{escape(heading)}</title><style>{CSS}{charts.colour_rules(self.labels)}</style></head>\n"
            f'<body><main><h1>{escape(heading)}</h1><div class="legend">{names}</div>\n{films}'
            f'<p class="note">{NOTE}</p></main></body></html>\n',
        )

    def _film(self, number: int) -> str:
        film = self.film
        longest = sorted(film.curves.values(), key=film.seconds_seen, reverse=True)
        lasting = [curve for curve in longest if len(curve.frames) > 1] or longest
        shown = sorted(lasting[:MOST_FACES], key=lambda curve: curve.number)
        across = film.across
        facts = [f"{charts.clock(across[1] - across[0])} long", f"{many(len(film.times), 'frame')} analysed"]
        facts += [f"predictions smoothed over {self.smooth:g} s"] if self.smooth else []
        parts = [f'<p class="lead">{", ".join(facts)}.</p>']
        if not shown:
            return f"{parts[0]}<p>No face was detected.</p>"
        if len(shown) > 1:
            rows = "".join(self._row(curve, f"film-{number}-face-{curve.number}") for curve in shown)
            parts.append(
                f'<section class="overview"><h3>The most probable expression of each face</h3>{rows}{charts.axis(across)}</section>'
            )
        if left_out := [film.seconds_seen(curve) for curve in longest if curve not in shown]:
            most = charts.duration(max(left_out))
            parts.append(f'<p class="note">Faces that were seen more briefly, for at most {most}, are not shown: {len(left_out):,}.</p>')
        return "\n".join([*parts, *(self._face(curve, f"film-{number}-face-{curve.number}") for curve in shown)])

    def _row(self, curve: Curve, anchor: str) -> str:
        pieces = self.film.pieces(curve, self.film.across, charts.COLUMNS)
        return (
            f'<a href="#{anchor}" title="Face {curve.number}"><b>{curve.number}</b>{charts.bar(pieces, self.film.across, self.labels)}</a>'
        )

    def _face(self, curve: Curve, anchor: str) -> str:
        film, (first, last) = self.film, self.film.span(curve)
        whole = film.across
        across = (first, last) if last - first < ENLARGED_BELOW * (whole[1] - whole[0]) else whole
        pieces = film.pieces(curve, across, charts.COLUMNS)
        plots = [charts.areas(pieces, across, self.labels)] if self.labels else []
        plots += [charts.lines(pieces, across)] if self.affect else []
        enlarged = " The axis shows only this part of the film." if across != whole else ""
        picture = "" if curve.portrait is None else data_uri(curve.portrait, "JPEG", quality=JPEG_QUALITY)
        return (
            f'<article id="{anchor}"><header><img alt="" width="88" height="88" src="{picture}"><div><h3>Face {curve.number}</h3>'
            f"<p>{charts.clock(first)} – {charts.clock(last)}, seen for {charts.duration(film.seconds_seen(curve))}.{enlarged}</p>"
            f"<p>{self._summary(curve)}</p></div></header>{''.join(plots)}{charts.axis(across)}</article>"
        )

    def _summary(self, curve: Curve) -> str:
        """The most frequent expressions by their share of the time, and the means of valence and arousal."""
        weights, values, count = self.film.durations(curve), curve.values, len(self.labels)
        parts = []
        if count:
            best = values[:, :count].argmax(1)
            shares = sorted(((float(weights[best == at].sum()), name) for at, name in enumerate(self.labels)), reverse=True)
            named = [f"{name} {100 * share:.0f} %" for share, name in shares[:MOST_NAMED] if share >= LEAST_SHARE]
            parts.append(f"Most probable: {', '.join(named)} of the time.")
        means = weights @ values[:, count:]
        named = [f"{name} {round(mean, 2) + 0.0:+.2f}" for name, mean in zip(AFFECT, means.tolist(), strict=False)]  # no -0.00
        return " ".join([*parts, *([f"Mean {', '.join(named)}."] if named else [])])


def _headings(paths: Sequence[str]) -> list[str]:
    """The names of films, with as many of their folders as tell films of one name apart."""
    all_parts = [Path(path).parts for path in paths]
    headings = []
    for parts in all_parts:
        others = [other for other in all_parts if other != parts]
        depth = next((depth for depth in range(1, len(parts)) if all(parts[-depth:] != other[-depth:] for other in others)), len(parts))
        headings.append(one_line(str(Path(*parts[-depth:]))))
    return headings
