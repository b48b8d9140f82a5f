"""Pictures of a run: its learning curve, its confusion matrix with the worst of it, its augmented examples.

They draw through matplotlib's objects, without pyplot: no display, no global state. It is imported on first use.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csr_array

from hybrid_vit.evaluation.superclasses import OTHERS, superclasses
from hybrid_vit.utils.plots import BLUE, FAINT, INK, ORANGE, SERIES, End, frame, headline, label_ends, line, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

Row = Mapping[str, float]

NAMES = {"train": "train", "val": "validation", "test": "test", "published_test": "test"}
PANELS = (("top1", "top-1 accuracy (%)", "{:.1f} %"), ("loss", "loss (nats)", "{:.3f}"))
INKS = ["#ffffff", "#cfe0f1", "#6ea3d0", "#235f9c", "#0b2545"]
Counts: TypeAlias = ArrayLike | csr_array  # (C, C) images, true class first

LABELLED_CELLS = 20  # with more classes, numbers do not fit into the cells
MOST_CELLS = 1000  # a side: the picture has about as many pixels
SMALLEST_FONT = 3.0
LETTER = 0.6 / 72  # inches: the width of a letter of one point
ACROSS = 8  # augmented examples beside each other
SIDE = 1.21  # inches: the longer one of an augmented example
SHARE = 0.05  # of a class in a mixed example from which on it is named


def learning_curve(rows: Sequence[Row], path: Path, *, title: str = "", epochs: float = math.inf) -> None:
    """Draw every curve there is to a PNG of 1200 x 560 pixels: top-1 and loss over epochs, the learning rate behind.

    Args:
        rows: one per epoch, with "epoch" (from 0) and any of "lr", "<name>_top1" in per cent and "<name>_loss"; a row
            may lack a value or have one that is not finite.
        path: where the PNG goes.
        title: what run this is.
        epochs: length of the whole training, at the last row; an epoch may be a part of one.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    steps = rows[-1].get("step") if rows and math.isfinite(epochs) else None
    rows = [  # of a run that was lengthened, an epoch in the middle may be a part of one, too
        {**row, "trained": epochs * row["step"] / steps if steps else min(row["epoch"] + 1, epochs)} for row in rows
    ]

    figure = Figure(figsize=(12, 5.6), dpi=100, facecolor="white")
    axes = figure.subplots(1, 2, gridspec_kw={"left": 0.06, "right": 0.84, "bottom": 0.12, "top": 0.8, "wspace": 0.62})
    ends_at = [row["trained"] for row in rows]
    first, last = min(ends_at, default=1), max(ends_at, default=1)
    edge = 0.02 * last + (0.5 if last <= 1 else 0)
    highest = max(_points(rows, "lr")[1], default=0)
    for ax, (kind, label, form) in zip(axes, PANELS, strict=True):
        ends = []
        names = _names(rows, kind)
        for name in names:
            x, y = _points(rows, f"{name}_{kind}")
            place = [*NAMES].index(name) if name in NAMES else len(NAMES) + names.index(name)
            style = SERIES[place % len(SERIES)]
            ax.add_line(line(x, y, style, zorder=3))
            ends.append(End(x[-1], y[-1], f"{NAMES.get(name, name.replace('_', ' '))}  {form.format(y[-1])}", style))
        ax.autoscale_view()
        low, high = ax.get_ylim() if ends else (0.0, 1.0)
        # The faint learning rate lies along the lower edge: leave it a little space of its own.
        ax.set_ylim(max(0.0, low - 0.06 * (high - low)), high)
        ax.set_xlim(min(1, first) - edge, last + edge)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
        rate = f" (grey: the learning rate, at most {highest:.3g})" if highest > 0 else ""
        frame(ax, label, f"epochs trained{rate}")
        _rate(ax, rows)
        label_ends(ax, ends)
    headline(figure, "Learning curves: accuracy and loss after each epoch", title, left=0.06)
    save(figure, path)


def confusion_matrix(counts: Counts, class_names: Sequence[str], path: Path, *, title: str = "") -> None:
    """Draw a confusion matrix to a PNG, each row in per cent of its class, with the worst pairs and classes beside it.

    CIFAR-100's classes are grouped by their superclass, apart from others beside them.

    Args:
        counts: (C, C) images, true class first. Of more than 1,000 classes several neighbours share a cell.
        class_names: C names.
        path: where the PNG goes; 1300 x 800 pixels for up to 20 classes, 2550 x 1740 for more.
        title: what was scored.
    """
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.figure import Figure

    matrix = _sparse(counts)
    classes = len(class_names)
    assert matrix.shape == (classes, classes)
    groups = superclasses(class_names)
    if groups:
        order = sorted(range(classes), key=lambda index: (groups[index], class_names[index]))
        matrix = matrix[order][:, order]
        groups, class_names = ([names[index] for index in order] for names in (groups, class_names))
    cell = math.ceil(classes / MOST_CELLS) or 1
    rates = _rates(_merged(matrix, cell).toarray())
    names = [_short(name) for name in class_names]
    few = classes <= LABELLED_CELLS

    width, tall, dpi = (13, 8, 100) if few else (17, 11.6, 150)  # inches, from here on
    font = min(10.0 if few else 8.0, 0.8 * 72 * (tall - 2) / max(classes, 1))
    named = LETTER * font * max(map(len, names), default=0) if font >= SMALLEST_FONT else 0
    upright = font < 8 or max(map(len, names), default=0) > 6
    left, bottom = 0.55 + named + (1.0 if groups else 0), 0.55 + (named if upright else 0.15)
    square = tall - bottom - 1.15
    size = 9 if few else 8
    bars = left + square + 0.95 + LETTER * size * 31

    figure = Figure(figsize=(width, tall), dpi=dpi, facecolor="white")

    def axes(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / width, y / tall, w / width, h / tall))

    ax = axes(left, bottom, square, square)
    # The square root spreads the few per cent in which classes are confused.
    colors = LinearSegmentedColormap.from_list("ink", INKS).with_extremes(bad="#eeeeee")
    low, high = -0.5, cell * len(rates) - 0.5  # the axes count classes
    norm, extent = PowerNorm(0.5, 0, 100), (low, high, high, low)
    image = ax.imshow(100 * rates, cmap=colors, norm=norm, interpolation="nearest", extent=extent)
    _name_axes(ax, names, font, upright)
    _group(ax, groups, -(0.15 + named) / square)
    if few:
        for (row, column), rate in np.ndenumerate(100 * rates):
            if rate > 0:
                ink = "white" if rate > 35 else INK
                ax.text(column, row, _per_cent(rate), ha="center", va="center", fontsize=size, color=ink)
    bar = figure.colorbar(image, cax=axes(left + square + 0.15, bottom, 0.15, square), ticks=[0, 1, 5, 10, 25, 50, 100])
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(length=0, labelsize=8, colors=INK)
    bar.ax.set_title("% of the\ntrue class", fontsize=8, color=FAINT, loc="left")

    shown = 10 if few else 20
    totals = matrix.sum(axis=1)
    pairs = [
        (f"{names[true]} → {names[guess]}", 100 * matrix[true, guess] / totals[true])
        for true, guess in most_confused(matrix, shown)
    ]
    worst = [(names[index], 100 * matrix[index, index] / totals[index]) for index in worst_classes(matrix, shown)]
    half = (square - 0.85) / 2
    for y, values, what, color in (
        (bottom + half + 0.85, pairs, "Most confused: true → predicted (% of the true class)", ORANGE),
        (bottom, worst, "Lowest top-1 accuracy (%)", BLUE),
    ):
        _bars(axes(bars, y, width - 0.25 - bars, half), values, what, color, shown, size)
    headline(figure, "Confusion matrix: what each class is taken for", _summary(matrix, groups, cell, title), left=0.03)
    save(figure, path)


def examples(images: Tensor, targets: Tensor, class_names: Sequence[str], path: Path) -> None:
    """Draw images with the names of their classes, and the shares of mixed ones, to a PNG.

    Args:
        images: (N, 3, H, W) uint8.
        targets: (N,) classes or (N, C) shares of the classes.
        class_names: C names.
        path: where the PNG goes.
    """
    from matplotlib.figure import Figure

    count, (high, wide) = len(images), images.shape[-2:]
    width, height = 1.3 * ACROSS, 1.55 * math.ceil(count / ACROSS) + 1  # inches
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))  # one for all: each takes 0.03 s
    ax.set_axis_off()
    scale = SIDE / max(high, wide)
    pictures = images.permute(0, 2, 3, 1).cpu().numpy()
    for i, (picture, target) in enumerate(zip(pictures, targets.cpu(), strict=True)):
        x, top = (i % ACROSS + 0.5) / ACROSS * width, height - 1.05 - 1.55 * (i // ACROSS)
        extent = (x - scale * wide / 2, x + scale * wide / 2, top - scale * high, top)
        ax.imshow(picture, interpolation="nearest", extent=extent)
        words = _classes(target, class_names)
        ax.text(x, top + 0.03, words, fontsize=7.5, color=INK, ha="center", parse_math=False)
    what = f"The first {count} images of the first epoch, {wide} x {high} pixels, with their classes"
    headline(figure, "Augmented images, as the model sees them", what, left=0.01)
    save(figure, path)


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
    found = [(row["trained"], row[key]) for row in rows if key in row and math.isfinite(row[key])]
    return [x for x, _ in found], [y for _, y in found]


def _rate(ax: Axes, rows: Sequence[Row]) -> None:
    """The learning rate as a grey area along the lower edge, not to scale."""
    x, y = _points(rows, "lr")
    if not y or max(y) <= 0:
        return
    height = [0.2 * value / max(y) for value in y]
    edge = ax.get_xaxis_transform()
    ax.fill_between(x, 0, height, transform=edge, color="#000000", alpha=0.05, linewidth=0, zorder=1)
    ax.plot(x, height, transform=edge, color="#bdbdbd", linewidth=1, zorder=1)


def _name_axes(ax: Axes, names: list[str], font: float, upright: bool) -> None:
    ax.spines[:].set_color("#bbbbbb")
    ax.tick_params(length=0, colors=INK, pad=3)
    ax.set_xlabel("predicted class", color=INK, fontsize=11)
    ax.set_ylabel("true class", color=INK, fontsize=11)
    if font < SMALLEST_FONT:
        return
    ticks = range(len(names))
    ax.set_xticks(ticks, names, fontsize=font, parse_math=False, rotation=90 if upright else 0)
    ax.set_yticks(ticks, names, fontsize=font, parse_math=False)


def _group(ax: Axes, groups: Sequence[str], left: float) -> None:
    """Frame the block of each run of equal groups, and name it at `left`, in widths of the axes."""
    start = 0
    for name, members in groupby(groups):
        size = len([*members])
        low, high = start - 0.5, start + size - 0.5
        ax.plot([low, high, high, low, low], [low, low, high, high, low], color=FAINT, linewidth=0.8)
        for ruled in (ax.axhline, ax.axvline):
            ruled(high, color="#d5d5d5", linewidth=0.4)
        text = textwrap.fill(name, 16)
        place = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "center"}
        ax.text(left, start + size / 2 - 0.5, text, fontsize=6.5, color=INK, **place)  # type: ignore[arg-type]
        start += size
    if groups:
        ax.set(xlim=(-0.5, start - 0.5), ylim=(start - 0.5, -0.5))
        ax.yaxis.set_label_coords(left - 0.105, 0.5)


def _bars(ax: Axes, bars: list[tuple[str, float]], title: str, color: str, places: int, size: float) -> None:
    """Named horizontal bars in per cent, the first on top; `places` keeps their thickness the same in every picture."""
    ax.set_title(title, loc="right", fontsize=10.5, color=INK, pad=8)
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
    ax.set_xlim(0, 1.3 * max(*values, 1.0))
    ax.set_yticks(range(len(bars)), [name for name, _ in bars], fontsize=size, parse_math=False)
    for place, value in enumerate(values):
        ax.annotate(
            f"{value:.1f} %", (value, place), (4, 0), textcoords="offset points", va="center", fontsize=size, color=INK
        )


def _summary(matrix: csr_array, groups: Sequence[str], cell: int, title: str) -> str:
    """What was scored, top-1, and how many of the errors stay within the groups."""
    total, hits = int(matrix.sum()), int(matrix.trace())
    words = [title] if title else []
    words.append(f"top-1 {100 * hits / total:.2f} % of {total:,} images" if total else "no images")
    if groups and total > hits:
        true, guess = matrix.tocoo().coords
        near = sum(n for n, i, j in zip(matrix.tocoo().data, true, guess, strict=True) if groups[i] == groups[j]) - hits
        others = " or among the other classes" if OTHERS in groups else ""
        words.append(f"{100 * near / (total - hits):.0f} % of the errors stay within the superclass{others}")
    if cell > 1:
        words.append(f"a cell stands for {cell} x {cell} classes")
    return "; ".join(words)


def _classes(target: Tensor, class_names: Sequence[str]) -> str:
    """The name of a target's class, or the shares of the two largest in a mixed one."""
    if target.ndim == 0:
        return _short(class_names[int(target)])
    shares, classes = (found.tolist() for found in target.float().topk(min(2, len(class_names))))
    named = [(share, class_names[index]) for share, index in zip(shares, classes, strict=True) if share >= SHARE]
    if len(named) == 1:
        return _short(named[0][1])
    return "\n".join(f"{100 * share:.0f} % {_short(name)}" for share, name in named)


def _short(name: str) -> str:
    name = name.replace("_", " ")
    return name if len(name) <= 14 else name[:13] + "…"


def _per_cent(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 9.95 else f"{rate:.1f}".removesuffix(".0")
