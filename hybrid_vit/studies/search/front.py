"""What a search found: how its trials ended -> the Pareto front as a table, CSV files and a picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hybrid_vit.benchmarks.table import Table, figures
from hybrid_vit.evaluation.statistics import pareto
from hybrid_vit.utils.files import write_csv, write_text
from hybrid_vit.utils.plots import BLUE, FAINT, INK, ORANGE, End, Style, frame, headline, label_ends, log_axis, save

Outcome = dict[str, Any]

FIGURES = ("state", "val_top1", "macs", "step_seconds", "parameters", "epochs", "seconds")
UNITS = {
    "macs": (1e-6, "million MACs", "million multiply-accumulates an image"),
    "step_seconds": (1e3, "ms a step", "milliseconds a training step"),
}


def front(trials: Sequence[Outcome], cost: str) -> list[Outcome]:
    """The complete trials that no other dominates, cheapest first; of equal ones the first."""
    complete = [trial for trial in trials if trial["state"] == "complete"]
    ordered = sorted(complete, key=lambda trial: trial["number"])
    return pareto(ordered, cost=lambda trial: trial[cost], gain=lambda trial: trial["val_top1"])


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
    for path in set(folder.glob("trial_*.yaml")) - files.keys():
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
    drawn = {f"{key} (drawn)" if key in FIGURES else key: value for key, value in trial["params"].items()}
    return {"trial": trial["number"], **values, **drawn, "why": trial.get("why", "")}


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
    """Every trial over its cost, pruned ones as crosses; the front is a line of steps, its trials are named."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.4), dpi=100, facecolor="white")
    ax = figure.add_axes((0.075, 0.085, 0.66, 0.75))
    unit, label = UNITS[cost][1:]
    pruned = [trial for trial in trials if trial["state"] == "pruned"]
    dominated = [trial for trial in trials if trial["state"] == "complete" and trial not in best]
    for word, style, shown in (
        ("pruned", Style(FAINT, "x"), pruned),
        ("dominated", Style(BLUE, "o"), dominated),
        ("on the front", Style(ORANGE, "s"), best),
    ):
        x, y = [scaled(trial, cost) for trial in shown], [trial["val_top1"] for trial in shown]
        (drawn,) = ax.plot(x, y, style.marker, color=style.color, markersize=6, label=f"{word} ({len(shown)})")
        if shown is best:
            drawn.set(linestyle="-", drawstyle="steps-post")
    log_axis(ax, "x")
    frame(ax, x=label, y="validation top-1 (%)")
    ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=9, labelcolor=INK)
    ends = [
        End(x, y, f"{trial['number']:\u2007>3}   {y:.2f} %   {figures(x)}", Style(ORANGE, "s"))
        for trial in best
        for x, y in ((scaled(trial, cost), trial["val_top1"]),)
    ]
    label_ends(ax, ends, gap=0.04)
    headline(
        figure, "Pareto front of a search: accuracy and cost", f"{title}; beside: trial, top-1, {unit}", left=0.075
    )
    save(figure, path)
