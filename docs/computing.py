"""Accuracy against computing: `python docs/computing.py` -> docs/computing.svg.

Published rows come from docs/computing.csv, ours from the summaries in outputs/published.
"""

import csv
import json
import math
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
    for system, kind, computing, top1 in rows:
        style = STYLES[kind]
        ax.plot(computing, top1, style.marker, color=style.color, markersize=7)
        left = (
            any(0 < math.log10(x / computing) < 0.5 and abs(y - top1) < 0.5 for _, _, x, y in rows) or computing > 1000
        )
        place = {"xytext": (-7 if left else 7, 4), "ha": "right" if left else "left"}
        ax.annotate(system, (computing, top1), textcoords="offset points", fontsize=8, color=style.color, **place)
    shown = [kind for kind in STYLES if any(row[1] == kind for row in rows)]
    handles = [Line2D([], [], color=STYLES[k].color, marker=STYLES[k].marker, linestyle="", label=k) for k in shown]
    ax.legend(handles=handles, loc="lower right", frameon=False, fontsize=9)
    ax.set_xlim(0.3, 9000)
    title = "CIFAR-100 from scratch: test accuracy against computing"
    frame(ax, title, "forward multiply-accumulates of an image, in 10⁹, times epochs", "test top-1 (%)")
    save(figure, HERE / "computing.svg")


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
