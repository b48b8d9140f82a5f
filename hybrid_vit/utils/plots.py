"""How every picture here looks: its colours, markers and dashes, its axes, the names beside the ends of its curves.

Series are told apart by colour, marker and dash together. Colours of the same dash differ under simulated deuteranopia
and in grey, and no two series have the same marker (tests/utils/test_plots.py has the numbers).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hybrid_vit.utils.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

INK, FAINT, GRID = "#333333", "#767676", "#e4e4e4"
BLUE, ORANGE, PURPLE, GOLD = COLORS = ("#1a72b4", "#e65a30", "#583698", "#cfa100")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)))
MARKED = 8  # a longer curve has about so many markers


class Style(NamedTuple):
    """How a series is drawn."""

    color: str
    marker: str
    dash: Any = "-"
    hollow: bool = False


REFERENCE = Style(INK, "D")
SERIES = tuple(Style(COLORS[i % 4], marker, DASHES[i // 4]) for i, marker in enumerate("os^vPX*<>ph"))
OTHER = Style("#b4b4b4", ".")


class End(NamedTuple):
    """The last point of a series, and what is written beside it."""

    x: float
    y: float
    text: str
    style: Style


def line(x: Any, y: Any, style: Style, **options: Any) -> Line2D:
    """A curve with some of its points marked, the last one among them."""
    from matplotlib.lines import Line2D

    last = len(x) - 1
    step = max(1, len(x) // MARKED)
    looks = {"linewidth": 1.7, "markersize": 6 if style.marker in "*." else 5, "solid_capstyle": "round"}
    face = "white" if style.hollow else style.color
    marked = [*range(last % step, last + 1, step)]
    return Line2D(
        x,
        y,
        color=style.color,
        marker=style.marker,
        linestyle=style.dash,
        markerfacecolor=face,
        markevery=marked,
        **looks | options,
    )


def frame(ax: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """A faint grid behind, a line on the left and below, no ticks; what is shown, and the quantity of each axis."""
    ax.grid(color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#bbbbbb")
    ax.tick_params(length=0, colors=INK, labelsize=9)
    ax.set_title(title, loc="left", fontsize=10.5, color=INK, pad=8, parse_math=False)
    ax.set_xlabel(x, color=INK)
    ax.set_ylabel(y, color=INK, parse_math=False)


def headline(figure: Figure, title: str, subtitle: str, *, left: float) -> None:
    """What the picture shows and, below, what it was made of; 0.35 and 0.6 inches under the upper edge."""
    height = figure.get_figheight()
    figure.text(left, 1 - 0.35 / height, title, fontsize=13, fontweight="bold", color=INK, parse_math=False)
    figure.text(left, 1 - 0.6 / height, subtitle, fontsize=10, color=FAINT, parse_math=False)


def log_axis(ax: Axes, *names: str, ticks: Sequence[float] = ()) -> None:
    """Make "x" or "y" logarithmic, with plain numbers at `ticks` or at 1, 2, 5, 10, 20..."""
    from matplotlib.ticker import FixedLocator, LogLocator, NullLocator, StrMethodFormatter

    for name in names:
        ax.set(**{f"{name}scale": "log"})
        axis = {"x": ax.xaxis, "y": ax.yaxis}[name]
        axis.set_major_locator(FixedLocator(ticks) if ticks else LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
        axis.set_minor_locator(NullLocator())


def label_ends(ax: Axes, ends: Sequence[End], gap: float = 0.052) -> None:
    """Write each series' text at the right edge with its marker, at its height, moved apart where they would touch."""
    from matplotlib.transforms import Affine2D, ScaledTranslation

    ax.get_xlim(), ax.get_ylim()  # fixes the limits
    to_axes = ax.transData - ax.transAxes
    ordered = sorted(ends, key=lambda end: end.y)
    wanted = [float(to_axes.transform((end.x, end.y))[1]) for end in ordered]
    points = Affine2D().scale(1 / 72) + ax.figure.dpi_scale_trans  # type: ignore[union-attr]
    for end, place in zip(ordered, spread(wanted, gap), strict=True):
        edge = ScaledTranslation(1, place, ax.transAxes)  # type: ignore[arg-type]
        beside = points + edge  # points from the right edge
        sample = line([8, 17, 26], [0, 0, 0], end.style, transform=beside, clip_on=False)
        sample.set_markevery([1])
        ax.figure.add_artist(sample)
        ax.annotate(
            end.text,
            xy=(end.x, end.y),
            xytext=(31, 0),
            textcoords=beside,
            va="center",
            fontsize=9,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": end.style.color, "alpha": 0.4, "linewidth": 0.8}
            | {"shrinkA": 24, "shrinkB": 3, "relpos": (0, 0.5)},
            annotation_clip=False,
            parse_math=False,
        )


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Ascending places as near to the ascending `wanted` as they can be with at least `gap` between neighbours."""
    groups: list[list[float]] = []  # sum of (wanted - offset within the group), members
    for place in wanted:
        groups.append([place, 1])
        while len(groups) > 1:
            (above_sum, above), (below_sum, below) = groups[-1], groups[-2]
            if below_sum / below + below * gap <= above_sum / above:
                break
            groups[-2:] = [[below_sum + above_sum - above * below * gap, below + above]]
    return [total / members + i * gap for total, members in groups for i in range(int(members))]


def save(figure: Figure, path: Path, **options: Any) -> None:
    """Write a PNG or an SVG, by the suffix, whole or not at all; the same bytes each time."""
    import matplotlib

    kind = path.suffix.removeprefix(".")
    if kind == "svg":
        options["metadata"] = {"Date": None}
    with matplotlib.rc_context({"svg.hashsalt": path.name}), replacing(path) as partial:
        figure.savefig(partial, format=kind, **options)
