"""How every picture of the house looks: its inks, its axes, names beside the ends of curves that do not touch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, GRID = "#333333", "#8a8a8a", "#e4e4e4"
HUES = (
    *("#4c78a8", "#e4572e", "#2a9d5c", "#8e5ea2", "#b5850b", "#17a2a2", "#c2477f", "#6b6b6b"),
    *("#8c4a2f", "#86a832", "#7d8fe0"),
)


def frame(ax: Axes) -> None:
    """A faint grid behind, a line on the left and below, no ticks."""
    ax.grid(color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#bbbbbb")
    ax.tick_params(length=0, colors=INK, labelsize=9)


def label_ends(ax: Axes, ends: list[tuple[float, str, str, bool]]) -> None:
    """Write each curve's name and last value at the right edge, at its height, moved apart where they would touch."""
    height = ax.yaxis.get_transform().transform  # linear or logarithmic
    low, high = height(ax.get_ylim())
    ordered = sorted(ends, key=lambda end: end[0])
    wanted = [float(height(value) - low) / float(high - low) for value, *_ in ordered]
    for (_, text, color, dashed), want, place in zip(ordered, wanted, spread(wanted, 0.052), strict=True):
        ax.annotate(
            text,
            xy=(1.0, want),
            xytext=(1.045, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=color,
            alpha=0.75 if dashed else 1,
            fontweight="normal" if dashed else "bold",
            arrowprops={"arrowstyle": "-", "color": color, "alpha": 0.35, "linewidth": 0.8}
            | {"shrinkA": 2, "shrinkB": 0, "relpos": (0, 0.5)},
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
