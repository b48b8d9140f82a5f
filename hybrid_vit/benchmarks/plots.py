"""Pictures of benchmarks: a table -> a PNG of bars (how many times faster), of curves (how time grows) or of points."""

from pathlib import Path

from hybrid_vit.benchmarks.table import Table, figures
from hybrid_vit.utils.plots import BLUE, FAINT, INK, End, Style, frame, label_ends, log_axis, save

UNITS = {"tokens": "tokens", "width": "width (channels)", "depth": "depth (blocks)", "batch": "batch size (images)"}


def draw(table: Table, path: Path) -> None:
    """Draw what there is to draw, if anything."""
    drawer = {"growth": growth, "zoo": zoo}.get(table.suite, bars if table.ratio else None)
    if drawer:
        drawer(table, path)


def bars(table: Table, path: Path) -> None:
    """The ratio of each row, with its range over the rounds; the line at 1 is equal speed."""
    from matplotlib.figure import Figure

    column = str(table.ratio)
    rows = [row for row in table.rows if row[column] is not None]
    names = [", ".join(value for value in row.values() if isinstance(value, str)) for row in rows]
    spans = [row[column] for row in rows]
    figure = Figure(figsize=(11, 1.5 + 0.42 * len(rows)), dpi=100, facecolor="white", layout="constrained")
    ax = figure.subplots()
    places = range(len(rows))
    ax.barh(places, [span.median for span in spans], color=BLUE, height=0.62)
    for place, span in zip(places, spans, strict=True):
        ax.plot([span.low, span.high], [place, place], color=INK, linewidth=1.5, solid_capstyle="butt")
        ax.text(span.high, place, f"  {figures(span.median)}x", va="center", color=INK, fontsize=9)
    ax.axvline(1, color=FAINT, linewidth=1, linestyle="--")
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.12 * max(span.high for span in spans))
    frame(ax, table.title, f"{column} (times; dashed: equal speed; lines: lowest to highest round)")
    ax.grid(visible=False, axis="y")
    save(figure, path)


def growth(table: Table, path: Path) -> None:
    """Milliseconds over each axis, both logarithmic, with the fitted law behind the points and, below, its misses."""
    import numpy as np
    from matplotlib.figure import Figure

    from hybrid_vit.benchmarks.growth import fit

    axes = list(dict.fromkeys(row["axis"] for row in table.rows))
    figure = Figure(figsize=(12, 4.8), dpi=100, facecolor="white", layout="constrained")
    panels = figure.subplots(2, len(axes), sharex="col", sharey="row", squeeze=False, height_ratios=(3, 1.2))
    for upper, lower, name in zip(*panels, axes, strict=True):
        rows = [row for row in table.rows if row["axis"] == name]
        x, t = [row["x"] for row in rows], [row["ms a step"].median for row in rows]
        a, b, c = fit(x, t)
        fine = np.geomspace(min(x), max(x), 100)
        upper.plot(fine, a + b * fine + c * fine**2, color=FAINT, linewidth=1)
        upper.vlines(x, [row["ms a step"].low for row in rows], [row["ms a step"].high for row in rows], color=INK)
        upper.plot(x, t, "o", color=BLUE, markersize=5)
        missed = [100 * (time / (a + b * size + c * size**2) - 1) for size, time in zip(x, t, strict=True)]
        lower.plot(x, missed, "o-", color=BLUE, markersize=4, linewidth=1)
        lower.axhline(0, color=INK, linewidth=1)
        log_axis(upper, "x", ticks=x)
        log_axis(upper, "y")
        frame(upper, name)
        frame(lower, x=UNITS.get(name, name))
        lower.tick_params(axis="x", labelsize=8)
    panels[0, 0].set_ylabel("ms a training step", color=INK)
    panels[1, 0].set_ylabel("measured minus\nfitted (%)", color=INK)
    figure.suptitle(f"{table.title}: measured, and a + b x + c x² fitted", fontsize=12, color=INK)
    save(figure, path)


def zoo(table: Table, path: Path) -> None:
    """Images a second, and test top-1 where some model has one, over multiply-accumulates; ours as blue squares."""
    from matplotlib.figure import Figure

    panels = {"images/s": "images a second", "test top-1": "test top-1 (%)"}
    shown = {column: label for column, label in panels.items() if any(row[column] for row in table.rows)}
    figure = Figure(figsize=(9 * len(shown), 6), dpi=100, facecolor="white", layout="constrained")
    axes = figure.subplots(1, len(shown), sharex=True, squeeze=False)[0]
    for ax, (column, label) in zip(axes, shown.items(), strict=True):
        log_axis(ax, "x", *(["y"] if column == "images/s" else []))
        ends = []
        for row in table.rows:
            if row[column]:
                x, span = row["million MACs"], row[column]
                style = Style(BLUE, "s") if row["model"].startswith("hybrid") else Style(INK, "o")
                ax.plot([x, x], [span.low, span.high], color=style.color, linewidth=1)
                ax.plot(x, span.median, style.marker, color=style.color, markersize=5)
                ends.append(End(x, span.median, row["model"], style))
        frame(ax, table.title, "million multiply-accumulates an image", label)
        label_ends(ax, ends, gap=0.04)
    save(figure, path)
