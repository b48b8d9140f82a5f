"""Diagrams of two models: `python docs/architecture.py` -> docs/hybrid_fast.svg and docs/hybrid_192.svg."""

from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Polygon, Rectangle

from hybrid_vit.utils.plots import BLUE, FAINT, GOLD, GRID, INK, ORANGE, PURPLE

MIDDLE = 18.0  # height of the arrows


def write(ax: Axes, x: float, y: float, text: str, *, size: float = 8.5, color: str = INK, bold: bool = False) -> None:
    weight = "bold" if bold else "normal"
    ax.text(x, y, text, ha="center", va="center", fontsize=size, color=color, weight=weight, linespacing=1.35)


def part(ax: Axes, x: float, title: str, shape: str) -> None:
    """The name of a part above it, the shape of its output below."""
    write(ax, x, 32.5, title, size=9.5, bold=True)
    write(ax, x, 2, shape, size=9, color=FAINT)


def arrow(ax: Axes, start: float, end: float) -> None:
    style = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (end, MIDDLE), (start, MIDDLE), arrowprops=style)


def box(ax: Axes, x: float, width: float, text: str, color: str, *, height: float = 8) -> None:
    """A rounded box with its middle at (x, MIDDLE)."""
    corner = (x - width / 2, MIDDLE - height / 2)
    style = "round,pad=0,rounding_size=0.8"
    ax.add_patch(
        FancyBboxPatch(corner, width, height, boxstyle=style, facecolor="white", edgecolor=color, linewidth=1.4)
    )
    write(ax, x, MIDDLE, text)


def grid(ax: Axes, x: float, side: float, cells: int) -> None:
    """A square of tokens with its middle at (x, MIDDLE)."""
    left, low = x - side / 2, MIDDLE - side / 2
    ax.add_patch(Rectangle((left, low), side, side, facecolor=ORANGE, alpha=0.75))
    for i in range(1, cells):
        at = i * side / cells
        ax.plot([left, left + side], [low + at, low + at], color="white", linewidth=0.8)
        ax.plot([left + at, left + at], [low, low + side], color="white", linewidth=0.8)


def feature_map(ax: Axes, x: float, side: float, depth: float, text: str) -> None:
    """Channels, height and width as a block; its front begins at x."""
    low, high, lift = MIDDLE - 0.6 * side, MIDDLE + 0.4 * side, 0.35 * side
    back = x + depth
    front = [(x, low), (back, low), (back, high), (x, high)]
    top = [(x, high), (back, high), (back + lift, high + lift), (x + lift, high + lift)]
    right = [(back, low), (back + lift, low + lift), (back + lift, high + lift), (back, high)]
    for corners, alpha in ((front, 0.75), (top, 0.55), (right, 0.9)):
        ax.add_patch(Polygon(corners, facecolor=BLUE, edgecolor="white", linewidth=1, alpha=alpha))
    write(ax, x + (depth + lift) / 2, 7, text, size=7.5)


def residual(ax: Axes, start: float, end: float) -> None:
    """A connection around a part, and the sum at its end."""
    above = MIDDLE + 6.5
    ax.plot([start, start, end, end], [MIDDLE, above, above, MIDDLE + 1], color=INK, linewidth=1.2)
    ax.add_patch(Circle((end, MIDDLE), 1, facecolor="white", edgecolor=INK, linewidth=1.2, zorder=3))
    ax.text(end, MIDDLE - 0.1, "+", ha="center", va="center", fontsize=9, color=INK, zorder=4)


def canvas() -> tuple[Figure, Axes]:
    """An empty picture, 128 x 36 units, with the image at its left."""
    fig = Figure(figsize=(12.8, 3.6), facecolor="white")
    ax = fig.add_axes((0, 0, 1, 1), xlim=(0, 128), ylim=(0, 36), aspect="equal")
    ax.axis("off")
    part(ax, 7, "image", "3 x 32 x 32")
    for shift, color in ((1.6, BLUE), (0.8, PURPLE), (0, ORANGE)):
        ax.add_patch(Rectangle((1.4 + shift, 12.2 + shift), 10, 10, facecolor=color, edgecolor="white", linewidth=1.5))
    arrow(ax, 13.6, 16.4)
    return fig, ax


def block(ax: Axes, left: float, attention: str, mlp: str) -> None:
    """A transformer block: two residual branches, 36 units wide."""
    style = "round,pad=0,rounding_size=1.2"
    ax.add_patch(
        FancyBboxPatch((left, 8), 36, 20, boxstyle=style, facecolor=GRID, edgecolor="none", alpha=0.6, zorder=0)
    )
    ax.plot([left, left + 36], [MIDDLE, MIDDLE], color=INK, linewidth=1.2, zorder=0.5)
    residual(ax, left + 1.5, left + 16.4)
    residual(ax, left + 19, left + 33.9)
    box(ax, left + 8.6, 11.6, attention, PURPLE)
    box(ax, left + 26.1, 11.6, mlp, PURPLE)


def head(ax: Axes, pool: str, width: int) -> None:
    """Pool and classifier, at the right."""
    part(ax, 109, "pool", f"{width}")
    box(ax, 109, 8.6, pool, GOLD)
    arrow(ax, 113.4, 116.4)
    part(ax, 121.5, "head", "100 classes")
    box(ax, 121.5, 9.6, f"linear\n{width}→100", GOLD)


def hybrid_fast() -> Figure:
    """The model of fast_4m."""
    fig, ax = canvas()
    part(ax, 22, "whitening", "24 x 31 x 31")
    feature_map(ax, 17.6, 12, 1, "2x2, frozen\n+ SiLU")
    arrow(ax, 24.6, 27.4)
    part(ax, 39, "3 groups of convolutions", "320 x 3 x 3")
    feature_map(ax, 28.6, 6.5, 2, "64 x 15 x 15")
    feature_map(ax, 36.4, 3.4, 4.4, "256 x 7 x 7")
    feature_map(ax, 44.4, 1.8, 5.4, "320 x 3 x 3")
    write(
        ax,
        39,
        27.2,
        "convolution 3x3, max-pool, BatchNorm, SiLU,\nthen a residual convolution 3x3",
        size=7,
        color=FAINT,
    )
    arrow(ax, 51, 53.8)
    part(ax, 57.6, "tokens", "9 x 320")
    grid(ax, 57.6, 6, 3)
    write(ax, 57.6, 7, "3 x 3 grid\n+ positions", size=7.5)
    arrow(ax, 61.4, 64.8)
    part(ax, 83, "transformer block", "9 x 320")
    block(ax, 65, "LayerNorm\nattention\n10 heads", "LayerNorm\nMLP with\ndepthwise 3x3")
    write(ax, 83, 9.6, "each branch ends in a layer scale", size=7, color=FAINT)
    arrow(ax, 101, 104.2)
    head(ax, "LayerNorm\nmaximum\n+ mean", 320)
    return fig


def hybrid_192() -> Figure:
    """The model of run_192."""
    fig, ax = canvas()
    part(ax, 30.5, "stem: 3 convolutions, 3x3", "192 x 16 x 16")
    feature_map(ax, 18, 12, 1.6, "stride 1\n64 x 32 x 32")
    feature_map(ax, 28, 6.5, 3.2, "stride 2\n128 x 16 x 16")
    feature_map(ax, 37, 6.5, 4.8, "stride 1\n192 x 16 x 16")
    write(ax, 35, 26.8, "each with BatchNorm, ReLU", size=7.5, color=FAINT)
    arrow(ax, 45.2, 48)
    part(ax, 55, "tokens", "257 x 192")
    grid(ax, 55, 12, 16)
    ax.add_patch(Rectangle((49, 25.2), 1.3, 1.3, facecolor=PURPLE))
    write(ax, 54.4, 25.8, "class token", size=7.5)
    write(ax, 55, 7, "16 x 16 grid\n+ learned positions", size=7.5)
    arrow(ax, 61.6, 64.8)
    part(ax, 83, "transformer block x 6", "257 x 192")
    block(ax, 65, "LayerNorm\nattention\n6 heads", "LayerNorm\nMLP, GELU\n192→768→192")
    arrow(ax, 101, 104.2)
    head(ax, "LayerNorm\nclass\ntoken", 192)
    return fig


if __name__ == "__main__":
    matplotlib.rcParams["svg.hashsalt"] = "architecture"  # the same file each time
    for draw in (hybrid_fast, hybrid_192):
        draw().savefig(Path(__file__).with_name(f"{draw.__name__}.svg"), metadata={"Date": None})
