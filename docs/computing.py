"""Accuracy against computing: `python docs/computing.py` -> docs/computing.svg.

Published rows come from docs/computing.csv, ours from the summaries in outputs/published.
"""

import csv
import json
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from hybrid_vit.utils.plots import BLUE, INK, ORANGE, PURPLE, Style, frame, log_axis, save

HERE = Path(__file__).parent
STYLES = {
    "CNN": Style(INK, "o"),
    "transformer": Style(PURPLE, "^"),
    "hybrid": Style(ORANGE, "s"),
    "hybrid, this project": Style(BLUE, "D"),
}


def main() -> None:
    with (HERE / "computing.csv").open(encoding="utf-8") as file:
        rows = [
            (row["system"], row["kind"], float(row["gmac_epochs"]), float(row["top1"])) for row in csv.DictReader(file)
        ]
    rows += ours(HERE.parent / "outputs/published")
    figure = Figure(figsize=(9, 5.6), facecolor="white", layout="constrained")
    ax = figure.subplots()
    log_axis(ax, "x", ticks=(0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000))
    for _, kind, computing, top1 in rows:
        ax.plot(computing, top1, STYLES[kind].marker, color=STYLES[kind].color, markersize=7)
    ax.set_xlim(0.3, 9000)
    title = "CIFAR-100 from scratch: test accuracy against computing"
    frame(ax, title, "forward multiply-accumulates of an image, in 10⁹, times epochs", "test top-1 (%)")
    shown = [kind for kind in STYLES if any(row[1] == kind for row in rows)]
    handles = [Line2D([], [], color=STYLES[k].color, marker=STYLES[k].marker, linestyle="", label=k) for k in shown]
    ax.legend(handles=handles, loc="lower right", frameon=False, fontsize=9)
    label(ax, rows)
    save(figure, HERE / "computing.svg")


def label(ax: Axes, rows: list[tuple[str, str, float, float]]) -> None:
    """Write the names of the points beside them, each at the first place where nothing else is."""
    ax.figure.draw_without_rendering()
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in ax.transData.transform([row[2:] for row in rows])]
    for system, kind, computing, top1 in rows:
        text = ax.annotate(system, (computing, top1), (0, 0), textcoords="offset points", color=STYLES[kind].color)
        text.set_fontsize(8)
        for x, y in ((7, 3), (7, -9), (-7, 3), (-7, -9), (0, 8), (0, -15)):
            text.set(position=(x, y), ha={1: "left", 0: "center", -1: "right"}[(x > 0) - (x < 0)])
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken) and ax.bbox.x0 < box.x0 and box.x1 < ax.bbox.x1:
                break
        taken.append(box)


def ours(published: Path) -> list[tuple[str, str, float, float]]:
    """(name, kind, GMACs x epochs, test top-1) of each published run on CIFAR-100, from scratch."""
    found = []
    for path in sorted(published.glob("*/model.json")):
        summary = json.loads((path.parent / "summary.json").read_text(encoding="utf-8"))
        source = json.loads(path.read_text(encoding="utf-8"))["data"]["source"]
        if source == "cifar100" and not summary.get("pretrained") and "init_from" not in summary:
            point = (summary["gmac_epochs"], summary["scores"]["test_top1"])
            found.append((path.parent.name, "hybrid, this project", *point))
    return found


if __name__ == "__main__":
    main()
