"""What a search found: how its trials ended -> the Pareto front as a table, CSV files and a picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hybrid_vit.benchmarks.table import Table, figures
from hybrid_vit.utils.files import replacing, write_csv, write_text
from hybrid_vit.utils.plots import FAINT, INK, frame, spread

Outcome = dict[str, Any]

BLUE, ORANGE = "#4c78a8", "#e4572e"
FIGURES = ("state", "val_top1", "macs", "step_seconds", "parameters", "epochs", "seconds")
UNITS = {
    "macs": (1e-6, "million MACs", "million multiply-accumulates an image"),
    "step_seconds": (1e3, "ms a step", "milliseconds a training step"),
}


def front(trials: Sequence[Outcome], cost: str) -> list[Outcome]:
    """The complete trials that no other dominates, cheapest first; of equal ones the first."""
    complete = [trial for trial in trials if trial["state"] == "complete"]
    best: list[Outcome] = []
    for trial in sorted(complete, key=lambda trial: (trial[cost], -trial["val_top1"], trial["number"])):
        if not best or trial["val_top1"] > best[-1]["val_top1"]:
            best.append(trial)
    return best


def write(directory: Path, trials: Sequence[Outcome], cost: str, trainable: Callable[[Outcome, str], str]) -> None:
    """Write what was found, each file whole or not at all.

    Args:
        directory: of the search; trials.csv, pareto.csv, pareto.png and front/ go there.
        trials: how each ended.
        cost: "macs" or "step_seconds".
        trainable: a trial and its name -> the text of its file in front/.
    """
    best = front(trials, cost)
    folder = directory / "front"
    folder.mkdir(exist_ok=True)
    files = {folder / f"trial_{trial['number']:04d}.yaml": trial for trial in best}
    for path in set(folder.glob("*.yaml")) - files.keys():
        path.unlink()
    for path, trial in files.items():
        if not path.exists():
            write_text(path, trainable(trial, path.stem))
    write_csv(directory / "trials.csv", [row(trial) for trial in trials])
    write_csv(directory / "pareto.csv", [row(trial) for trial in best])
    draw(trials, best, cost, directory / "pareto.png", title=directory.name)


def row(trial: Outcome) -> dict[str, Any]:
    """A trial in a CSV file: its figures, its settings, and why it is not complete."""
    values = {key: trial.get(key, "") for key in FIGURES}
    return {"trial": trial["number"], **values, **trial["params"], "why": trial.get("why", "")}


def line(trial: Outcome, cost: str) -> str:
    """A trial on one line."""
    parts = [f"trial {trial['number']}", trial["state"]]
    if "val_top1" in trial:
        parts.append(f"{trial['val_top1']:.2f} %")
    if cost in trial:
        parts.append(f"{figures(scaled(trial, cost))} {UNITS[cost][1]}")
    if "seconds" in trial:
        parts.append(f"{trial['seconds']:.0f} s")
    if trial["state"] in ("infeasible", "failed"):
        parts.append(trial["why"])
    return "  ".join(parts)


def table(best: Sequence[Outcome], cost: str) -> str:
    """The front as text, cheapest first."""
    if not best:
        return "no trial is complete"
    rows = [
        {"trial": trial["number"], "val top-1, %": f"{trial['val_top1']:.2f}", UNITS[cost][1]: scaled(trial, cost)}
        | {short(key): shown(value) for key, value in trial["params"].items()}
        for trial in best
    ]
    return Table("search", "the Pareto front, cheapest first", rows).text()


def short(key: str) -> str:
    """stem@model.stem -> stem, model.stem.depth -> stem.depth."""
    return key.split("@")[0].removeprefix("model.").removeprefix("optim.")


def shown(value: Any) -> str:
    """A drawn value; three digits of a float."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def scaled(trial: Outcome, cost: str) -> float:
    """The cost in its unit."""
    return trial[cost] * UNITS[cost][0]


def draw(trials: Sequence[Outcome], best: Sequence[Outcome], cost: str, path: Path, *, title: str) -> None:
    """Every trial over its cost, pruned ones hollow, the front as a line of steps with its trials' names beside it."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, ScalarFormatter

    figure = Figure(figsize=(10, 6), dpi=100, facecolor="white", layout="constrained")
    ax = figure.subplots()
    for state, word, face, color in (("pruned", "pruned", "none", FAINT), ("complete", "dominated", BLUE, BLUE)):
        shown = [trial for trial in trials if trial["state"] == state and trial not in best]
        points = [scaled(trial, cost) for trial in shown], [trial["val_top1"] for trial in shown]
        ax.plot(*points, "o", color=color, markerfacecolor=face, markersize=5, label=f"{word} ({len(shown)})")
    x, y = [scaled(trial, cost) for trial in best], [trial["val_top1"] for trial in best]
    ax.plot(x, y, "o-", color=ORANGE, drawstyle="steps-post", markersize=6, zorder=3, label=f"the front ({len(best)})")
    ax.set_xscale("log")
    low, high = ax.get_ylim()
    places = spread([(value - low) / (high - low) for value in y], 0.04)
    for trial, place in zip(best, places, strict=True):
        ax.annotate(
            f"trial {trial['number']:\u2007>3}   {trial['val_top1']:.2f} %   {figures(scaled(trial, cost))}",
            xy=(scaled(trial, cost), trial["val_top1"]),
            xytext=(1.03, place),
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": ORANGE, "alpha": 0.3, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 4},
            annotation_clip=False,
        )
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_locator(LogLocator(subs=()))
    ax.set_title(f"{title}: validation top-1 (%)", loc="left", fontsize=11, color=INK, parse_math=False)
    ax.set_xlabel(UNITS[cost][2], color=INK)
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=9, labelcolor=INK)
    frame(ax)
    with replacing(path) as partial:
        figure.savefig(partial, format="png")
