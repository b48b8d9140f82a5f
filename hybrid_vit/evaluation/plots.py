"""Pictures of a run: rows of epochs -> its learning curve; counts of a confusion matrix -> the matrix and its worst.

Both draw through matplotlib's objects, without pyplot: no display, no global state. It is imported on first use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array

from hybrid_vit.utils.files import replacing
from hybrid_vit.utils.plots import FAINT, HUES, INK, frame, label_ends

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = Mapping[str, float]

NAMES = {"train": "train", "val": "validation", "test": "test", "published_test": "test"}
COLORS = dict(zip(NAMES, HUES, strict=False))
OTHER_COLORS = HUES[len(NAMES) :]
INKS = ["#ffffff", "#cfe0f1", "#6ea3d0", "#235f9c", "#0b2545"]
PANELS = (("top1", "top-1 accuracy (%)", "{:.1f} %"), ("loss", "loss (nats)", "{:.3f}"))
Counts: TypeAlias = ArrayLike | csr_array  # (C, C) images, true class first

LABELLED_CELLS = 20  # up to so many classes a cell has room for its number
MOST_CELLS = 1000  # a side: the picture has about as many pixels
SMALLEST_FONT = 3.0
MARGINS = {"left": 0.045, "right": 0.855, "bottom": 0.115, "top": 0.85, "wspace": 0.56}


def learning_curve(rows: Sequence[Row], path: Path, *, title: str = "", reference: Sequence[Row] | None = None) -> None:
    """Draw every curve there is to a PNG of 1200 x 520 pixels: top-1 and loss over epochs, the learning rate behind.

    Args:
        rows: one per epoch, with "epoch" (from 0) and any of "lr", "<name>_top1" in per cent and "<name>_loss"; a row
            may lack a value or have one that is not finite.
        path: where the PNG goes.
        title: what run this is.
        reference: rows of another run with the same keys, drawn dashed ("ref.") as far as `rows` go.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(12, 5.2), dpi=100, facecolor="white")
    axes = figure.subplots(1, 2, gridspec_kw=MARGINS)
    last = max((row["epoch"] for row in rows), default=0)
    reference = [row for row in reference or [] if row["epoch"] <= last]
    for ax, (kind, label, form) in zip(axes, PANELS, strict=True):
        ends = []
        for source, dashed in ((reference, True), (rows, False)):
            names = _names([*rows, *reference], kind)
            for name in _names(source, kind):
                x, y = _points(source, f"{name}_{kind}")
                color = COLORS.get(name) or OTHER_COLORS[names.index(name) % len(OTHER_COLORS)]
                _curve(ax, x, y, color, dashed)
                shown = NAMES.get(name, name.replace("_", " ")) + (", ref." if dashed else "")
                ends.append((y[-1], f"{shown}  {form.format(y[-1])}", color, dashed))
        low, high = ax.get_ylim() if ends else (0.0, 1.0)
        # The faint learning rate lies along the lower edge: leave it a little room of its own.
        ax.set_ylim(max(0.0, low - 0.06 * (high - low)), high)
        ax.set_xlim(1 - 0.02 * last - (0.5 if last == 0 else 0), last + 1 + 0.02 * last + (0.5 if last == 0 else 0))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        ax.set_xlabel("epochs trained", color=INK)
        ax.set_title(label, loc="left", fontsize=11, color=INK, pad=10)
        _rate(ax, rows)
        frame(ax)
        label_ends(ax, ends)
    figure.suptitle(title, x=0.045, y=0.975, ha="left", fontsize=13, fontweight="bold", color=INK, parse_math=False)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def confusion_matrix(counts: Counts, class_names: Sequence[str], path: Path, *, title: str = "") -> None:
    """Draw a confusion matrix to a PNG, each row in per cent of its class, with the worst pairs and classes beside it.

    Args:
        counts: (C, C) images, true class first. Of more than 1,000 classes several neighbours share a cell.
        class_names: C names.
        path: where the PNG goes; 1500 x 900 pixels for up to 20 classes, 2400 x 1650 for more.
        title: what was scored.

    Raises:
        ValueError: `counts` is not C x C.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.figure import Figure

    matrix = _sparse(counts)
    classes = len(class_names)
    if matrix.shape != (classes, classes):
        raise ValueError(f"counts have the shape {matrix.shape}, but there are {classes} class names")
    cell = math.ceil(classes / MOST_CELLS) or 1
    rates = _rates(_merged(matrix, cell).toarray())
    names = [_short(name) for name in class_names]
    few = classes <= LABELLED_CELLS

    figure = Figure(figsize=(15, 9) if few else (16, 11), dpi=100 if few else 150, facecolor="white")
    height = 0.74 if few else 0.8
    bottom, square = (0.15, height * 9 / 15) if few else (0.105, height * 11 / 16)
    ax = figure.add_axes((0.095, bottom, square, height))
    # The square root spreads the few per cent in which classes are confused.
    colors = LinearSegmentedColormap.from_list("ink", INKS).with_extremes(bad="#eeeeee")
    low, high = -0.5, cell * len(rates) - 0.5  # the axes count classes
    image = ax.imshow(
        100 * rates,
        cmap=colors,
        norm=PowerNorm(0.5, 0, 100),
        interpolation="nearest",
        extent=(low, high, high, low),
    )
    _name_axes(ax, names, font=min(10.0 if few else 8.0, 0.8 * 72 * height * (9 if few else 11) / max(classes, 1)))
    if few:
        for (row, column), rate in np.ndenumerate(100 * rates):
            if rate > 0:
                ink = "white" if rate > 35 else INK
                size = 10 if classes <= 12 else 8
                ax.text(column, row, _per_cent(rate), ha="center", va="center", fontsize=size, color=ink)
    bar = figure.colorbar(
        image,
        cax=figure.add_axes((0.095 + square + 0.012, bottom, 0.009, height)),
        ticks=[0, 1, 5, 10, 25, 50, 100],
    )
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(length=0, labelsize=8, colors=INK)
    bar.ax.set_title("% of\nclass", fontsize=8, color=FAINT, loc="left")

    left = 0.095 + square + 0.055 + (0.125 if few else 0.11)
    shown = 10 if few else 20
    totals = matrix.sum(axis=1)
    pairs = [
        (f"{names[true]} → {names[guess]}", 100 * matrix[true, guess] / totals[true])
        for true, guess in most_confused(matrix, shown)
    ]
    worst = [(names[index], 100 * matrix[index, index] / totals[index]) for index in worst_classes(matrix, shown)]
    half = (height - 0.09) / 2
    box = (left, bottom + half + 0.09, 0.96 - left, half)
    _bars(figure.add_axes(box), pairs, "most confused: true → predicted", "#e4572e", shown)
    _bars(figure.add_axes((left, bottom, 0.96 - left, half)), worst, "lowest top-1 accuracy", "#4c78a8", shown)

    total = int(totals.sum())
    accuracy = f"top-1 {100 * matrix.trace() / total:.2f} % of {total:,} images" if total else "no images"
    accuracy += f"; a cell stands for {cell} x {cell} classes" if cell > 1 else ""
    figure.text(0.095, 0.955, title, fontsize=14, fontweight="bold", color=INK, parse_math=False)
    figure.text(0.095, 0.93, accuracy, fontsize=11, color=FAINT)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def most_confused(counts: Counts, n: int) -> list[tuple[int, int]]:
    """The n pairs (true, predicted) with the largest share of the true class, largest first; none that never occurs."""
    matrix = _sparse(counts)
    found, totals = matrix.tocoo(), matrix.sum(axis=1)
    true, guess = found.coords
    order = np.lexsort((guess, true, -found.data, -found.data / totals[true]))
    return [(int(true[i]), int(guess[i])) for i in order if true[i] != guess[i]][:n]


def worst_classes(counts: Counts, n: int) -> list[int]:
    """The n classes with the lowest accuracy, lowest first; a class without images has none."""
    matrix = _sparse(counts)
    totals = matrix.sum(axis=1)
    accuracy = np.divide(matrix.diagonal(), totals, out=np.full(len(totals), np.nan), where=totals > 0)
    present = [index for index in range(len(accuracy)) if not math.isnan(accuracy[index])]
    return sorted(present, key=lambda index: (accuracy[index], index))[:n]


def _sparse(counts: Counts) -> csr_array:
    """int64 counts, of which only those above 0 are held."""
    matrix = csr_array(counts, dtype=np.int64)
    matrix.eliminate_zeros()
    return matrix


def _merged(matrix: csr_array, cell: int) -> coo_array:
    """The sums of blocks of cell x cell counts."""
    found = matrix.tocoo()
    side = math.ceil(matrix.shape[0] / cell)
    return coo_array((found.data, tuple(places // cell for places in found.coords)), shape=(side, side))


def _rates(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each row; NaN in a row without images."""
    totals = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, totals, out=np.full(matrix.shape, np.nan), where=totals > 0)


def _names(rows: Sequence[Row], kind: str) -> list[str]:
    """What has a curve of this kind, in order of appearance."""
    keys = dict.fromkeys(key for row in rows for key in row if key.endswith(f"_{kind}"))
    return [key.removesuffix(f"_{kind}") for key in keys if _points(rows, key)[0]]


def _points(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    """Epochs trained and values, where there are any."""
    found = [(row["epoch"] + 1, row[key]) for row in rows if key in row and math.isfinite(row[key])]
    return [x for x, _ in found], [y for _, y in found]


def _curve(ax: Axes, x: list[float], y: list[float], color: str, dashed: bool) -> None:
    style: dict[str, Any] = {"linestyle": (0, (4, 3)), "linewidth": 1.2, "alpha": 0.6} if dashed else {"linewidth": 2}
    ax.plot(x, y, color=color, solid_capstyle="round", zorder=2 if dashed else 3, **style)
    # A short run is seen by its points, a long one by its line and its last point.
    marked = slice(None) if len(x) <= 12 else slice(-1, None)
    size, face = (3.5, "white") if dashed else (5, color)
    ax.plot(x[marked], y[marked], "o", color=color, markersize=size, markerfacecolor=face, zorder=4)


def _rate(ax: Axes, rows: Sequence[Row]) -> None:
    """The learning rate as a faint hill along the lower edge, of a height that says nothing but its course."""
    x, y = _points(rows, "lr")
    if not y or max(y) <= 0:
        return
    height = [0.2 * value / max(y) for value in y]
    edge = ax.get_xaxis_transform()
    ax.fill_between(x, 0, height, transform=edge, color="#000000", alpha=0.05, linewidth=0, zorder=1)
    ax.plot(x, height, transform=edge, color="#bdbdbd", linewidth=1, zorder=1)
    ax.text(
        0.5,
        0.02,
        f"learning rate, at most {max(y):.3g}",
        transform=ax.transAxes,
        ha="center",
        fontsize=8,
        color=FAINT,
        zorder=5,
    )


def _name_axes(ax: Axes, names: list[str], font: float) -> None:
    ax.spines[:].set_color("#bbbbbb")
    ax.tick_params(length=0, colors=INK, pad=3)
    ax.set_xlabel("predicted", color=INK, fontsize=11)
    ax.set_ylabel("true", color=INK, fontsize=11)
    if font < SMALLEST_FONT:
        return
    ticks = range(len(names))
    upright = font < 8 or max(map(len, names), default=0) > 6
    ax.set_xticks(ticks, names, fontsize=font, parse_math=False, rotation=90 if upright else 0)
    ax.set_yticks(ticks, names, fontsize=font, parse_math=False)


def _bars(ax: Axes, bars: list[tuple[str, float]], title: str, color: str, places: int) -> None:
    """Named horizontal bars in per cent, the first on top; `places` keeps their thickness the same in every picture."""
    ax.set_title(title, loc="left", fontsize=11, color=INK, pad=8)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, colors=INK)
    ax.set_xticks([])
    ax.set_ylim(places - 0.4, -0.6)
    if not bars:
        ax.set_yticks([])
        ax.text(0, 0.5, "none", color=FAINT, fontsize=10, va="center")
        return
    values = [value for _, value in bars]
    ax.barh(range(len(bars)), values, color=color, height=0.66, alpha=0.85)
    ax.set_xlim(0, 1.15 * max(*values, 1.0))
    size = 9 if places <= 10 else 8
    ax.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=size, parse_math=False)
    for place, value in enumerate(values):
        ax.annotate(
            f"{value:.1f} %", (value, place), (4, 0), textcoords="offset points", va="center", fontsize=size, color=INK
        )


def _short(name: str) -> str:
    name = name.replace("_", " ")
    return name if len(name) <= 14 else name[:13] + "…"


def _per_cent(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 9.95 else f"{rate:.1f}".removesuffix(".0")
