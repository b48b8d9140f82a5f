"""The learning curves of a report: a study, and published curves -> pictures over epochs, images or minutes."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hybrid_vit.studies.report.records import Configuration
from hybrid_vit.studies.report.study import Study, counterparts, course
from hybrid_vit.studies.report.style import Picture, quantity, roomy, short, styles
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.plots import FAINT, OTHER, SERIES, End, Style, frame, label_ends, line

WATCHED = ("val_top1", "published_test_top1", "train_top1")
PUBLISHED = ("epoch", "train_acc", "val_acc")
MINUTES, IMAGES, EPOCHS = "minutes of training", "images seen (thousands)", "epochs trained"


def curves(study: Study) -> tuple[Figure, Picture] | None:
    """The score that was watched, and the training loss, over what the runs have in common: time, images or epochs."""
    watched = next((key for key in WATCHED if all(key in run.epochs for _, run in study.runs)), None)
    if watched is None:
        return None
    over = abscissa(study)
    figure = Figure(figsize=(7, 8.6), facecolor="white")
    for ax, key, form in zip(panels(figure), (watched, "train_loss"), ("{:.1f} %", "{:.2f}"), strict=True):
        lines(ax, study, key, form, over=over)
        what = quantity(key)
        frame(ax, f"{what.partition(' (')[0].capitalize()} over {over.partition(' (')[0]}", over, what)
    named = styles(study)
    note = "" if len(named) == len(study.configurations) else f" The reference and the {len(SERIES)} best are named."
    if any(len({len(run.epochs) for run in each.runs}) > 1 for each in study.configurations):
        note += " A line of runs of several lengths ends, with its value, where the shortest does."
    if over == MINUTES:
        note += " Points are ends of epochs; minutes are the mean over seeds and hold validation too."
    caption = f"Mean over seeds; bands from the lowest to the highest.{note}"
    return figure, Picture("learning_curves", "Learning curves", caption)


def overlay(study: Study, published: dict[str, pd.DataFrame]) -> tuple[Figure, Picture]:
    """Published curves, dotted, as far as our own go."""
    figure = Figure(figsize=(7, 8.6), facecolor="white")
    pairs = counterparts(study)
    for ax, (ours, theirs) in zip(panels(figure), pairs.items(), strict=True):
        last = max((curve.index.max() for each in study.configurations if len(curve := course(each, ours))), default=1)
        ends = []
        for (name, table), own in zip(published.items(), SERIES[::-1] * len(published), strict=False):
            style = Style(FAINT, own.marker, ":", hollow=True)
            part = table["epoch"] + 1 <= last
            x, y = table["epoch"][part] + 1, table[theirs][part]
            if part.any():
                ax.add_line(line(x.to_numpy(), y.to_numpy(), style))
                ends.append(End(float(x.iloc[-1]), float(y.iloc[-1]), f"{short(name)}  {y.iloc[-1]:.1f} %", style))
        ax.autoscale_view()
        lines(ax, study, ours, "{:.1f} %", ends)
        what = quantity(ours)
        frame(ax, f"{what.partition(' (')[0].capitalize()} beside published curves", EPOCHS, what)
    what = (
        "Both are test accuracy after every epoch."
        if "published_test_top1" in pairs
        else "The published quantity is test accuracy after every epoch; not every run here has recorded it, so "
        "that validation accuracy stands beside it: other images, a comparison by eye only."
    )
    caption = f"Dotted, with hollow points: published, as far as the runs here go. {what}"
    return figure, Picture("overlays", "Published curves", caption)


def panels(figure: Figure) -> list[Axes]:
    """Two, one above the other."""
    return [*figure.subplots(2, 1, gridspec_kw={"hspace": 0.36})]


def abscissa(study: Study) -> str:
    """What curves are drawn over: minutes under a budget of time, images where the numbers of them differ."""
    runs = [run for _, run in study.runs]
    if any(run.summary.get("budget") for run in runs) and all("seconds" in run.epochs for run in runs):
        return MINUTES
    return IMAGES if len({run.summary["images"]["train"] for run in runs}) > 1 else EPOCHS


def along(configuration: Configuration, epochs: pd.Index, over: str) -> pd.Index:
    """Numbers of epochs trained -> places on the axis."""
    if over == MINUTES:
        minutes = course(configuration, "seconds").cumsum().mean(axis=1) / 60
        return pd.Index(minutes.reindex(epochs))
    return epochs * (configuration.runs[0].summary["images"]["train"] / 1000 if over == IMAGES else 1)


def lines(ax: Axes, study: Study, key: str, form: str, more: Iterable[End] = (), *, over: str = EPOCHS) -> None:
    """A line and a band for each configuration, named at their ends, with `more` that has been drawn."""
    ends, named = [*more], styles(study)
    for each in sorted(study.configurations, key=lambda each: each.label in named):
        table = course(each, key)
        if table.empty:
            continue
        style, mean = named.get(each.label, OTHER), table.mean(axis=1)
        x = along(each, table.index, over)
        ax.fill_between(x, table.min(axis=1), table.max(axis=1), color=style.color, alpha=0.15, linewidth=0)
        ax.add_line(line(x.to_numpy(), mean.to_numpy(), style))
        if each.label in named:
            value = float(mean.iloc[-1])
            ends.append(End(x[-1], value, f"{short(each.label)}  {form.format(value)}", style))
    ax.autoscale_view()
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    ax.set_ylim(*roomy(*ax.get_ylim(), 0.01))
    label_ends(ax, ends)


def read_overlay(path: Path) -> pd.DataFrame:
    """A published curve.

    Raises:
        UserError: not a CSV with the columns that are drawn.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as problem:
        raise UserError(f"overlays: {path} cannot be read ({problem})") from None
    missing = [key for key in PUBLISHED if key not in table]
    if missing or table.empty:
        what = f"has no {', '.join(missing)}" if missing else "is empty"
        raise UserError(
            f"overlays: {path} {what}; columns: epoch (from 0), train_loss, train_acc, val_loss, val_acc, lr"
        )
    return table
