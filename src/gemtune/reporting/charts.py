"""Small charts as SVG strings.

A chart takes its colours from the page's CSS. Positions across it are percentages, so text keeps its size on a phone
while the curves stretch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

MOST_POINTS = 400  # of one curve: more than a screen shows, little enough for a small page
DOTTED = 40  # evaluations up to which each one is marked with a dot
LOG_FROM = 8.0  # largest over smallest value from which equal ratios deserve equal heights


@dataclass(frozen=True)
class Curve:
    """One line of a chart; `kind` is its CSS class."""

    name: str
    kind: str
    points: Sequence[tuple[float, float]]
    dots: bool = False

    @property
    def drawn(self) -> list[tuple[float, float]]:
        """The finite points, averaged in runs where there are more than a screen shows.

        >>> Curve("val", "val", [(0, 2.0), (1, math.nan), (2, 1.0)]).drawn
        [(0, 2.0), (2, 1.0)]
        """
        finite = [(x, y) for x, y in self.points if math.isfinite(x) and math.isfinite(y)]
        width = math.ceil(len(finite) / MOST_POINTS)
        if width <= 1:
            return finite
        runs = [finite[start : start + width] for start in range(0, len(finite), width)]
        return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


@dataclass(frozen=True)
class Axis:
    """Maps values to percent of a chart's side."""

    low: float
    high: float
    log: bool = False
    ticks: tuple[float, ...] = field(default=())

    def at(self, value: float) -> float:
        """
        >>> Axis(1, 100, log=True).at(10), Axis(0, 4).at(1)
        (50.0, 25.0)
        """
        low, high, here = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return round(100 * (here - low) / (high - low), 3)


def linear_axis(low: float, high: float, count: int = 5) -> Axis:
    """An axis over [low, high] with `about` so many round ticks.

    >>> linear_axis(0, 100).ticks
    (0.0, 20.0, 40.0, 60.0, 80.0, 100.0)
    """
    if high <= low:
        high = low + (abs(low) * 0.1 or 1.0)
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return Axis(low, high, ticks=tuple(round(tick * step, 12) for tick in range(first, last + 1)))


def value_axis(values: Sequence[float]) -> Axis:
    """The vertical axis of losses: logarithmic when they span a wide range, otherwise linear; with room on both ends.

    >>> value_axis([0.9, 11.0]).log, value_axis([0.9, 1.2]).log
    (True, False)
    """
    low, high = min(values), max(values)
    if low > 0 and high / low >= LOG_FROM:
        axis = Axis(low / 1.08, high * 1.08, log=True)
        powers = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
        factors = (1, 2, 5) if len(powers) <= 4 else (1,)
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        return Axis(axis.low, axis.high, True, tuple(tick for tick in ticks if axis.low <= tick <= axis.high))
    room = (high - low or abs(high) or 1.0) * 0.08
    floor = 0.0 if 0 <= low < 0.25 * high else low - room
    return linear_axis(max(floor, 0.0) if low >= 0 else floor, high + room)


def line_chart(
    curves: Sequence[Curve],
    name: str,
    title: str,
    description: str,
    mark: tuple[float, str] | None = None,
    up: Axis | None = None,
) -> Markup:
    """Curves over steps with a legend; `mark` is a step and the words at its upright line; `name` makes ids unique."""
    drawn = {curve.name: curve.drawn for curve in curves}
    spots = [spot for spots in drawn.values() for spot in spots]
    if not spots:
        return Markup("")
    across = linear_axis(0.0, max(max(x for x, _ in spots), 1.0), count=6)
    up = up or value_axis([y for _, y in spots])
    inside = Markup("").join(
        [
            _grid(across, up),
            _mark(across, mark) if mark and mark[0] <= across.high else Markup(""),
            *(_curve(curve, drawn[curve.name], across, up) for curve in curves if drawn[curve.name]),
        ]
    )
    return Markup(
        '<div class="chart">{legend}<div class="plot"><svg width="100%" height="100%" role="img" '
        'aria-labelledby="{name}-title {name}-desc"><title id="{name}-title">{title}</title>'
        '<desc id="{name}-desc">{description}</desc>{inside}</svg></div></div>'
    ).format(legend=_legend(curves), name=name, title=title, description=description, inside=inside)


def _legend(curves: Sequence[Curve]) -> Markup:
    key = Markup(
        '<li><svg width="26" height="10" aria-hidden="true"><line class="curve {kind}" x1="1" x2="25" y1="5" y2="5"/>'
        "{dot}</svg> {name}</li>"
    )
    dot = Markup('<circle class="dot {}" cx="13" cy="5" r="3"/>')
    keys = [key.format(kind=c.kind, name=c.name, dot=dot.format(c.kind) if c.dots else "") for c in curves]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(keys))


def _grid(across: Axis, up: Axis) -> Markup:
    row = Markup(
        '<line class="grid" x1="0" x2="100%" y1="{y}%" y2="{y}%"/><text x="-10" y="{y}%" dy="0.32em">{t}</text>'
    )
    column = Markup('<text class="x" x="{x}%" y="100%" dy="1.7em">{t}</text>')
    rows = [row.format(y=round(100 - up.at(tick), 3), t=f"{tick:g}") for tick in up.ticks]
    columns = [column.format(x=across.at(tick), t=f"{tick:,g}") for tick in across.ticks]
    unit = Markup('<text x="-10" y="100%" dy="1.7em">step</text>')
    return Markup("").join([*rows, *columns, unit])


def _mark(across: Axis, mark: tuple[float, str]) -> Markup:
    x = across.at(mark[0])
    side = "before" if x > 55 else "after"
    return Markup(
        '<line class="mark" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>'
        '<text class="mark {side}" x="{x}%" dx="{dx}" y="0" dy="0.8em">{words}</text>'
    ).format(x=x, side=side, dx=-8 if side == "before" else 8, words=mark[1])


def _curve(curve: Curve, spots: Sequence[tuple[float, float]], across: Axis, up: Axis) -> Markup:
    places = [(across.at(x), round(100 - up.at(y), 3)) for x, y in spots]
    line = Markup(
        '<svg viewBox="0 0 100 100" preserveAspectRatio="none" width="100%" height="100%" overflow="visible">'
        '<polyline class="curve {}" vector-effect="non-scaling-stroke" points="{}"/></svg>'
    ).format(curve.kind, " ".join(f"{x:g},{y:g}" for x, y in places))
    if not curve.dots or len(places) > DOTTED:
        return line
    dot = Markup('<circle class="dot {}" cx="{}%" cy="{}%" r="3.5"><title>{}: {:.3g} at step {:g}</title></circle>')
    dots = [
        dot.format(curve.kind, x, y, curve.name, *reversed(spot)) for (x, y), spot in zip(places, spots, strict=True)
    ]
    return line + Markup("").join(dots)


def intervals(bars: Sequence[tuple[str, float, float, float]], title: str, labels: bool = False) -> Markup:
    """Bars of (CSS class, mean, low, high) below each other on an axis from 0 to 1; `labels` writes the class too."""
    height = 18 * len(bars) + 2
    grid = Markup("").join(
        Markup('<line class="grid" x1="{x}%" x2="{x}%" y1="0" y2="100%"/>').format(x=x) for x in (0, 25, 50, 75, 100)
    )
    bar = Markup(
        '<line class="interval {kind}" x1="{low}%" x2="{high}%" y1="{y}" y2="{y}"/>'
        '<circle class="dot {kind}" cx="{mean}%" cy="{y}" r="4.5"/>{label}'
    )
    before = Markup('<text x="{low}%" dx="-12" y="{y}" dy="0.32em">{kind}</text>')
    after = Markup('<text class="after" x="{high}%" dx="12" y="{y}" dy="0.32em">{kind}</text>')
    unit = Axis(0.0, 1.0)
    rows = [
        bar.format(
            **(place := {"kind": kind, "low": unit.at(low), "high": unit.at(high), "y": 10 + 18 * index}),
            mean=unit.at(mean),
            label=(before if high > 0.75 else after).format(**place) if labels else "",
        )
        for index, (kind, mean, low, high) in enumerate(bars)
        if all(math.isfinite(value) for value in (mean, low, high))
    ]
    return Markup('<svg class="intervals" width="100%" height="{}" role="img"><title>{}</title>{}{}</svg>').format(
        height, title, grid, Markup("").join(rows)
    )


def shares(parts: Sequence[tuple[str, int]], title: str) -> Markup:
    """One bar cut into (CSS class, count) pieces.

    >>> shares([("wins", 3), ("losses", 1)], "won 3, lost 1").count("<rect")
    2
    """
    total = sum(count for _, count in parts)
    piece = Markup('<rect class="share {}" x="{}%" width="{}%" height="100%"/>')
    pieces, start = [], 0.0
    for kind, count in parts:
        if count > 0:
            width = 100 * count / total
            pieces.append(piece.format(kind, round(start, 3), round(width, 3)))
            start += width
    return Markup('<svg class="shares" width="100%" height="12" role="img"><title>{}</title>{}</svg>').format(
        title, Markup("").join(pieces)
    )
