"""Pictures of benchmarks: a table -> a PNG of bars (how many times faster), of curves (how time grows) or of points."""

from pathlib import Path

from hybrid_vit.benchmarks.table import Row, Table, figures
from hybrid_vit.utils.files import replacing
from hybrid_vit.utils.plots import FAINT, GRID, INK, spread

BLUE = "#4c78a8"


def draw(table: Table, path: Path) -> bool:
    """Draw what there is to draw; whether there was anything."""
    drawer = {"growth": growth, "zoo": zoo}.get(table.suite, bars if table.ratio else None)
    if drawer:
        drawer(table, path)
    return drawer is not None


def bars(table: Table, path: Path) -> None:
    """The ratio of each row, with its range over the rounds; the line at 1 is equal speed."""
    from matplotlib.figure import Figure

    column = str(table.ratio)
    rows = [row for row in table.rows if row[column] is not None]
    names = [", ".join(value for value in row.values() if isinstance(value, str)) for row in rows]
    spans = [row[column] for row in rows]
    figure = Figure(figsize=(11, 1.3 + 0.42 * len(rows)), dpi=100, facecolor="white", layout="constrained")
    ax = figure.subplots()
    places = range(len(rows))
    ax.barh(places, [span.median for span in spans], color=BLUE, height=0.62)
    for place, span in zip(places, spans, strict=True):
        ax.plot([span.low, span.high], [place, place], color=INK, linewidth=1.5, solid_capstyle="butt")
        ax.text(span.high, place, f"  {figures(span.median)}x", va="center", color=INK, fontsize=9)
    ax.axvline(1, color=FAINT, linewidth=1, linestyle="--")
    ax.set_yticks(places, names, fontsize=9, color=INK)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.12 * max(span.high for span in spans))
    ax.set_title(f"{table.title}: {column} (times)", loc="left", fontsize=11, color=INK)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(left=False, colors=INK)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def growth(table: Table, path: Path) -> None:
    """Milliseconds over each axis, both logarithmic, with the fitted law behind the points."""
    import numpy as np
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, ScalarFormatter

    from hybrid_vit.benchmarks.growth import fit

    axes = list(dict.fromkeys(row["axis"] for row in table.rows))
    figure = Figure(figsize=(12, 3.6), dpi=100, facecolor="white", layout="constrained")
    for ax, name in zip(figure.subplots(1, len(axes), sharey=True), axes, strict=True):
        rows = [row for row in table.rows if row["axis"] == name]
        x, t = [row["x"] for row in rows], [row["ms a step"].median for row in rows]
        a, b, c = fit(x, t)
        fine = np.geomspace(min(x), max(x), 100)
        ax.plot(fine, a + b * fine + c * fine**2, color=FAINT, linewidth=1)
        ax.vlines(x, [row["ms a step"].low for row in rows], [row["ms a step"].high for row in rows], color=INK)
        ax.plot(x, t, "o", color=BLUE, markersize=5)
        ax.set(xscale="log", yscale="log")
        ax.set_xticks(x, [f"{size:,}" for size in x], fontsize=8)
        ax.minorticks_off()
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(ScalarFormatter())
        ax.set_title(name, loc="left", fontsize=11, color=INK)
        ax.grid(True, which="major", color=GRID)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(colors=INK)
    figure.supylabel("ms a training step", fontsize=10, color=INK)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def zoo(table: Table, path: Path) -> None:
    """Images a second, and test top-1 where some model has one, over multiply-accumulates; ours in blue."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, ScalarFormatter

    panels = [column for column in ("images/s", "test top-1") if any(row[column] for row in table.rows)]
    figure = Figure(figsize=(9 * len(panels), 6), dpi=100, facecolor="white", layout="constrained")
    for ax, column in zip(figure.subplots(1, len(panels), sharex=True, squeeze=False)[0], panels, strict=True):
        rows = sorted((row for row in table.rows if row[column]), key=lambda row: row[column].median)
        ax.set_xscale("log")
        ax.set_yscale("log" if column == "images/s" else "linear")
        for row in rows:
            x, span, color = row["million MACs"], row[column], ink(row)
            ax.plot([x, x], [span.low, span.high], color=color, linewidth=1)
            ax.plot(x, span.median, "o", color=color, markersize=5)
        scale = ax.yaxis.get_transform().transform
        low, high = scale(ax.get_ylim())
        heights = [float((scale(row[column].median) - low) / (high - low)) for row in rows]
        for row, height in zip(rows, spread(heights, 0.04), strict=True):
            ax.annotate(
                row["model"],
                xy=(row["million MACs"], row[column].median),
                xytext=(1.03, height),
                textcoords="axes fraction",
                va="center",
                fontsize=9,
                color=ink(row),
                arrowprops={"arrowstyle": "-", "color": ink(row), "alpha": 0.3, "linewidth": 0.8, "shrinkA": 0},
                annotation_clip=False,
            )
        for axis in (ax.xaxis, ax.yaxis) if column == "images/s" else (ax.xaxis,):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ScalarFormatter())
            axis.set_minor_locator(LogLocator(subs=()))
        ax.set_title(f"{table.title}: {column}", loc="left", fontsize=11, color=INK)
        ax.set_xlabel("million multiply-accumulates an image", color=INK)
        ax.grid(True, which="major", color=GRID)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(colors=INK)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")


def ink(row: Row) -> str:
    """The colour of a model: ours stand out."""
    return BLUE if row["model"].startswith("hybrid") else INK
