"""The learning curves of a report: a study, and published curves -> pictures over epochs, images or minutes."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hybrid_vit.studies.report.records import Configuration
from hybrid_vit.studies.report.study import Study, counterparts, course, families
from hybrid_vit.studies.report.style import Picture, quantity, roomy, short, styles
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.plots import FAINT, OTHER, SERIES, End, Style, frame, label_ends, line

WATCHED = ("val_top1", "published_test_top1", "train_top1")
MANY = 6  # more lines in one panel cannot be followed
PUBLISHED = ("epoch", "train_acc", "val_acc")
MINUTES, IMAGES, EPOCHS = "minutes of training", "images seen (thousands)", "epochs trained"


class Group(NamedTuple):
    """Configurations that are drawn in the same panels: the style of those that are named, and what they are called."""

    title: str
    configurations: list[Configuration]
    styles: dict[str, Style]
    names: dict[str, str]


def curves(study: Study) -> tuple[Figure, Picture] | None:
    """The score that was watched, and the training loss, over what the runs have in common: time, images or epochs."""
    logged = [run.epochs for _, run in study.runs if not run.epochs.empty]
    watched = next((key for key in WATCHED if logged and all(key in epochs for epochs in logged)), None)
    if watched is None:
        return None
    over = abscissa(study)
    forms = {watched: "{:.1f} %", "train_loss": "{:.2f}"}
    if len(found := groups(study)) == 1:
        figure = Figure(figsize=(7, 8.6), facecolor="white")
        axes = np.array([panels(figure)])
    else:
        figure = Figure(figsize=(10.5, 0.6 + 3.6 * len(found)), facecolor="white")
        axes = figure.subplots(len(found), 2, sharex=True, sharey="col", gridspec_kw={"hspace": 0.42, "wspace": 0.85})
    drawn = [
        (ax, each, key, lines(ax, each, key, forms[key], over))
        for each, row in zip(found, axes, strict=True)
        for ax, key in zip(row, forms, strict=True)
    ]
    for ax, each, key, ends in drawn:  # only now are the axes known, which the rows share
        label_lines(ax, ends)
        what = quantity(key).partition(" (")[0]
        title = f"{short(each.title)}: {what}" if each.title else f"{what.capitalize()} over {over.partition(' (')[0]}"
        frame(ax, title, over, quantity(key))
        ax.tick_params(labelbottom=True)
    named = sum(len(each.styles) for each in found)
    note = "" if named == len(study.configurations) else f" The reference and the {len(SERIES)} best are named."
    if len(found) > 1:
        note += " One row for each family, with the same axes; within a row only the amount of data differs."
    lengths = [{len(run.epochs) for run in each.runs if not run.epochs.empty} for each in study.configurations]
    if any(len(found) > 1 for found in lengths):
        note += " A line of runs of several lengths ends, with its value, where the shortest does."
    if over == MINUTES:
        note += " Points are ends of epochs; minutes are the mean over seeds and hold validation too."
    caption = f"Mean over seeds; bands from the lowest to the highest.{note}"
    return figure, Picture("learning_curves", "Learning curves", caption)


def overlay(study: Study, published: dict[str, pd.DataFrame]) -> tuple[Figure, Picture]:
    """Published curves, dotted, as far as our own go."""
    figure = Figure(figsize=(7, 8.6), facecolor="white")
    pairs = counterparts(study)
    drawn = [course(each, key) for each in study.configurations for key in pairs]
    last = max((table.index.max() for table in drawn if len(table)), default=1)
    for ax, (ours, theirs) in zip(panels(figure), pairs.items(), strict=True):
        ends = []
        for (name, table), own in zip(published.items(), SERIES[::-1] * len(published), strict=False):
            style = Style(FAINT, own.marker, ":", hollow=True)
            part = table.loc[table["epoch"] + 1 <= last, ["epoch", theirs]].dropna()  # not every log scores each epoch
            x, y = part["epoch"] + 1, part[theirs]
            if len(part):
                ax.add_line(line(x.to_numpy(), y.to_numpy(), style))
                ends.append(End(float(x.iloc[-1]), float(y.iloc[-1]), f"{short(name)}  {y.iloc[-1]:.1f} %", style))
        label_lines(ax, [*ends, *lines(ax, whole(study), ours, "{:.1f} %")])
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


def whole(study: Study) -> Group:
    """All configurations."""
    return Group(
        "", study.configurations, styles(study), {each.label: short(each.label) for each in study.configurations}
    )


def groups(study: Study) -> list[Group]:
    """All configurations; of more than MANY each family that was trained on several amounts of data, by itself."""
    found = families(study)
    if len(study.configurations) <= MANY or len(found) == 1 or any(len(group) == 1 for group in found.values()):
        return [whole(study)]
    amounts = sorted(
        {repr(each.amount): each.runs[0].summary["images"]["train"] for each in study.configurations}.items(),
        key=lambda item: item[1],
    )
    looks = {amount: style for (amount, _), style in zip(amounts, SERIES, strict=False)}
    return [
        Group(
            label,
            group,
            {each.label: looks[repr(each.amount)] for each in group if repr(each.amount) in looks},
            {each.label: each.label.removeprefix(f"{label} ") for each in group},
        )
        for label, group in found.items()
    ]


def abscissa(study: Study) -> str:
    """What curves are drawn over: minutes under a budget of time, images where the numbers of them differ."""
    runs = [run for _, run in study.runs if not run.epochs.empty]
    if any(run.summary.get("budget") for run in runs) and all("seconds" in run.epochs for run in runs):
        return MINUTES
    return IMAGES if len({run.summary["images"]["train"] for run in runs}) > 1 else EPOCHS


def along(configuration: Configuration, epochs: pd.Index, over: str) -> pd.Index:
    """Numbers of epochs trained -> places on the axis."""
    if over == MINUTES:
        minutes = course(configuration, "seconds").cumsum().mean(axis=1) / 60
        return pd.Index(minutes.reindex(epochs))
    return epochs * (configuration.runs[0].summary["images"]["train"] / 1000 if over == IMAGES else 1)


def lines(ax: Axes, group: Group, key: str, form: str, over: str = EPOCHS) -> list[End]:
    """Draw a line and a band for each configuration; the ends of those that are named."""
    ends, named = [], group.styles
    for each in sorted(group.configurations, key=lambda each: each.label in named):
        table = course(each, key)
        if table.empty:
            continue
        style, mean = named.get(each.label, OTHER), table.mean(axis=1)
        x = along(each, table.index, over)
        ax.fill_between(x, table.min(axis=1), table.max(axis=1), color=style.color, alpha=0.15, linewidth=0)
        ax.add_line(line(x.to_numpy(), mean.to_numpy(), style))
        if each.label in named:
            value = float(mean.iloc[-1])
            ends.append(End(x[-1], value, f"{group.names[each.label]}  {form.format(value)}", style))
    ax.autoscale_view()
    return ends


def label_lines(ax: Axes, ends: Sequence[End]) -> None:
    """Fix the axes, when all lines are drawn, and write the names beside the ends of the lines."""
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
    missing = [key for key in PUBLISHED if key not in table or not pd.api.types.is_numeric_dtype(table[key])]
    if missing or table.empty:
        what = f"has no numbers in {', '.join(missing)}" if missing else "is empty"
        raise UserError(f"overlays: {path} {what}; its columns must be {', '.join(PUBLISHED)}, epochs from 0")
    return table.groupby("epoch", as_index=False).last()  # some loggers write several rows an epoch
