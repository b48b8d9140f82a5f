"""What the pictures of a report share: how a study's configurations are drawn and named, and how far an axis goes."""

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hybrid_vit.evaluation.statistics import ENOUGH
from hybrid_vit.studies.report.claims import lower_is_better
from hybrid_vit.studies.report.study import Study
from hybrid_vit.utils.plots import REFERENCE, SERIES, Style

LONGEST = 42  # letters of a label in a picture
NAMES = {"val": "validation", "published_test": "test", "train": "training", "test": "test"}
Span = tuple[float, float]


class Picture(NamedTuple):
    """A picture of the page; `name`.png and `name`.svg lie beside it."""

    name: str
    title: str
    caption: str


def quantity(metric: str) -> str:
    """test_top1 -> test top-1 (%)."""
    split, _, what = metric.rpartition("_")
    if what == "loss":
        return f"{NAMES.get(split, split)} loss (nats)"
    return f"{NAMES.get(split, split)} {what.replace('top', 'top-')} (%)"


def styles(study: Study) -> dict[str, Style]:
    """Label -> style of the reference and of the best others; the rest is not named in pictures."""
    return {study.reference.label: REFERENCE} | dict(zip((each.label for each in study.ranked()), SERIES, strict=False))


def sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one panel, in inches."""
    figure = Figure(figsize=(width, height), facecolor="white")
    return figure, figure.subplots()


def short(label: str) -> str:
    """A label that fits beside a picture."""
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"


def resolution(study: Study) -> float:
    """The smallest difference that a picture may fill an axis with: an image of those scored; of a loss, 0.01 nats."""
    if lower_is_better(study.metric):
        return 0.01
    images = [run.summary["images"].get(study.metric.partition("_")[0]) for _, run in study.runs]
    return 100 / min(filter(None, images), default=10_000)


def roomy(low: float, high: float, least: float) -> Span:
    """The limits of an axis, moved apart where they are nearer than `least` to each other."""
    missing = max(0.0, least - (high - low)) / 2
    return low - missing, high + missing


def visible(values: Sequence[float], spans: Sequence[Span], more: Sequence[float] = ()) -> list[Span]:
    """The part of each interval (NaN for none) that an axis shows, so that one outlier does not flatten the rest.

    An end is cut that is farther from its value than the values (and `more`) are apart, and than a usual interval is
    long.
    """
    lengths = [high - low for low, high in spans if not math.isnan(low)]
    margin = max(max((*values, *more)) - min((*values, *more)), median(lengths or [0.0]))
    return [
        (max(low, value - margin), min(high, value + margin)) for value, (low, high) in zip(values, spans, strict=True)
    ]


def cut(spans: Sequence[Span], parts: Sequence[Span]) -> str:
    """What a caption says where an axis does not show the whole of an interval."""
    ends = [
        (one, other) for span, part in zip(spans, parts, strict=True) for one, other in zip(span, part, strict=True)
    ]
    hidden = any(one != other for one, other in ends if not math.isnan(one))
    return " An arrow marks an interval that goes on beyond the axis." if hidden else ""


def interval(ax: Axes, place: float, span: Span, part: Span, n: int, color: str, *, upright: bool) -> None:
    """Draw the visible part of an interval, with an arrow at an end that was cut."""
    points = [(place, end) if upright else (end, place) for end in part]
    ax.plot(*zip(*points, strict=True), color=color, linewidth=1.5, linestyle="-" if n >= ENOUGH else ":", zorder=3)
    for end, whole, point, arrow in zip(part, span, points, "v^" if upright else "<>", strict=True):
        if not math.isnan(end) and end != whole:
            ax.plot(*point, arrow, color=color, markersize=6, clip_on=False, zorder=3)
