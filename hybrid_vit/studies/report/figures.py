"""The pictures of a report: a study -> each picture that its data call for, as PNG and SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from hybrid_vit.studies.report.claims import lower_is_better, told_apart, unit
from hybrid_vit.studies.report.records import Configuration, called
from hybrid_vit.studies.report.study import Study, counterparts, course, opposed
from hybrid_vit.studies.statistics import ENOUGH, estimate, power_law, size_for
from hybrid_vit.utils.files import replacing
from hybrid_vit.utils.plots import FAINT, HUES, INK, frame, label_ends

UNNAMED = "#c4c4c4"
BLUE, ORANGE = HUES[:2]
LONGEST = 42  # letters of a label in a picture
CLASSES = 10  # shown at each end
WATCHED = ("val_top1", "published_test_top1", "train_top1")
NAMES = {"val": "validation", "published_test": "test", "train": "training", "test": "test"}
PUBLISHED = ("epoch", "train_acc", "val_acc")


class Picture(NamedTuple):
    """A picture of the page; `name`.png and `name`.svg lie beside it."""

    name: str
    title: str
    caption: str


def draw(study: Study, overlays: dict[str, pd.DataFrame], out: Path) -> list[Picture]:
    """Draw what the data call for into `out`, with published curves by their names."""
    drawers: list[Callable[[Study], tuple[Figure, Picture] | None]] = [differences, curves, tradeoffs, scaling, classes]
    if overlays:
        drawers.insert(2, lambda study: overlay(study, overlays))
    pictures = []
    for found in (drawer(study) for drawer in drawers):
        if found:
            save(found[0], out / found[1].name)
            pictures.append(found[1])
    return pictures


def save(figure: Figure, path: Path) -> None:
    """Write path.png and path.svg, the same bytes each time."""
    with replacing(path.with_suffix(".png")) as partial:
        figure.savefig(partial, format="png", dpi=150, bbox_inches="tight", pad_inches=0.15)
    with matplotlib.rc_context({"svg.hashsalt": path.name}), replacing(path.with_suffix(".svg")) as partial:
        figure.savefig(partial, format="svg", bbox_inches="tight", pad_inches=0.15, metadata={"Date": None})


def differences(study: Study) -> tuple[Figure, Picture] | None:
    """A bar a configuration: its difference to the reference with the interval; grey if it cannot be told apart."""
    if not study.comparisons:
        return None
    usual = {each.label: base.label for each, base in opposed(study.configurations, study.reference)}
    bases = set(usual.values())
    compared = list(reversed(study.comparisons))
    if len(bases) == 1:
        compared.sort(key=lambda entry: (usual.get(entry[0].label) == entry[1].label, entry[2].difference))
    found = [
        (short(each.label) + ("" if usual.get(each.label) == base.label else f" against {short(base.label)}"), c)
        for each, base, c in compared
    ]
    values = [comparison.difference for _, comparison in found]
    figure, ax = sheet(7, 0.9 + 0.42 * len(found))
    better = -1 if lower_is_better(study.metric) else 1
    for place, (_, c) in enumerate(found):
        color = (BLUE if better * c.difference > 0 else ORANGE) if told_apart(c) else UNNAMED
        ax.barh(place, c.difference, color=color, height=0.62, zorder=2)
        ax.plot(c.span, (place, place), color=INK, linewidth=1.5, linestyle=dash(c.n), zorder=3)
        text = f"{c.difference:+.2f}  n = {c.n}"
        ax.text(1.03, place, text, transform=ax.get_yaxis_transform(), va="center", fontsize=9, color=INK)
    ax.axvline(0, color=INK, linewidth=1, zorder=4)
    reach = [0.0, *values, *(x for _, c in found for x in c.span if not math.isnan(x))]
    ax.set_xlim(*roomy(1.05 * min(reach), 1.05 * max(reach), resolution(study)))
    ax.set_ylim(-0.6, len(found) - 0.4)
    ax.set_yticks(range(len(found)), [label for label, _ in found], parse_math=False)
    ax.grid(visible=False, axis="y")
    reference = "the reference at the same amount of data" if len(bases) > 1 else short(*bases)
    title(ax, f"{study.metric} minus that of {reference} ({unit(study.metric)})")
    caption = (
        "Blue is better and orange worse than the reference; grey cannot be told apart from it (p of 0.05 or more "
        f"after Holm, or fewer than {ENOUGH} scores). Lines: 95 % intervals; dotted: n = 2, from the lowest to the "
        "highest difference. n: pairs, or scores of the smaller side."
    )
    if len(found) > len(usual):
        caption += " \u201cA against B\u201d: A minus B."
    return figure, Picture("differences", "Differences to the reference", caption)


def curves(study: Study) -> tuple[Figure, Picture] | None:
    """The score that was watched, and the training loss, over epochs; over images where epochs differ in them."""
    watched = next((key for key in WATCHED if all(key in run.epochs for _, run in study.runs)), None)
    if watched is None:
        return None
    figure = Figure(figsize=(7, 8.4), facecolor="white")
    upper, lower = figure.subplots(2, 1, gridspec_kw={"hspace": 0.3})
    colors = palette(study)
    sizes = {run.summary["images"]["train"] for _, run in study.runs}
    for ax, key, form in ((upper, watched, "{:.1f} %"), (lower, "train_loss", "{:.2f}")):
        lines(ax, study, key, colors, form, by_images=len(sizes) > 1)
    title(upper, f"{NAMES[watched.removesuffix('_top1')]} top-1 (%)")
    title(lower, "training loss (nats)")
    lower.set_xlabel("images seen (thousands)" if len(sizes) > 1 else "epochs trained", color=INK)
    note = "" if len(colors) == len(study.configurations) else f" The reference and the {len(HUES)} best are named."
    if any(len({len(run.epochs) for run in each.runs}) > 1 for each in study.configurations):
        note += " A line of runs of several lengths ends, with its value, where the shortest does."
    caption = f"Mean over seeds; bands from the lowest to the highest.{note}"
    return figure, Picture("learning_curves", "Learning curves", caption)


def overlay(study: Study, published: dict[str, pd.DataFrame]) -> tuple[Figure, Picture]:
    """Published curves, dashed, as far as our own go."""
    figure = Figure(figsize=(7, 8.4), facecolor="white")
    panels = counterparts(study)
    for ax, (ours, theirs) in zip(figure.subplots(2, 1, gridspec_kw={"hspace": 0.3}), panels.items(), strict=True):
        colors = palette(study)
        ends = [(table["epoch"] + 1, table[theirs], name) for name, table in published.items()]
        last = max((curve.index.max() for each in study.configurations if len(curve := course(each, ours))), default=1)
        dashed = []
        for (x, y, name), hue in zip(ends, HUES[::-1] * len(ends), strict=False):
            part = x <= last
            if part.any():
                ax.plot(
                    x[part],
                    y[part],
                    color=hue,
                    linestyle=(0, (4, 3)),
                    linewidth=1.5,
                    marker=dot(part.sum()),
                    markersize=4,
                )
                dashed.append((float(y[part].iloc[-1]), f"{short(name)}  {y[part].iloc[-1]:.1f} %", hue, True))
        lines(ax, study, ours, colors, "{:.1f} %", dashed)
        title(ax, f"{NAMES[ours.removesuffix('_top1')]} top-1 (%)")
        ax.set_xlabel("epochs trained", color=INK)
    what = (
        "Both are test accuracy after every epoch."
        if "published_test_top1" in panels
        else "The published quantity is test accuracy after every epoch; not every run here has recorded it, so "
        "that validation accuracy stands beside it: other images, a comparison by eye only."
    )
    return figure, Picture("overlays", "Published curves", f"Dashed: published, as far as the runs here go. {what}")


def tradeoffs(study: Study) -> tuple[Figure, Picture] | None:
    """The score over parameters, MACs and seconds of training, with what no other configuration betters in both."""
    if len({(each.mean("parameters"), each.mean("macs")) for each in study.configurations}) < 2:
        return None
    colors = palette(study)
    score = {each.label: estimate([*each.scores(study.metric).values()]) for each in study.configurations}
    figure = Figure(figsize=(10.5, 4.2), facecolor="white")
    panels = figure.subplots(1, 3, sharey=True, gridspec_kw={"wspace": 0.08})
    costs = (("parameters", "parameters (millions)", 1e-6), ("macs", "MACs an image (millions)", 1e-6))
    for ax, (key, label, scale) in zip(panels, (*costs, ("seconds", "seconds of training", 1.0)), strict=True):
        points = [(scale * each.mean(key), score[each.label].mean) for each in study.configurations]
        best = front(points, lower=lower_is_better(study.metric))
        ax.plot(*zip(*best, strict=True), color=FAINT, linewidth=1, drawstyle="steps-post", zorder=1)
        for each, (x, y) in zip(study.configurations, points, strict=True):
            one = score[each.label]
            color = colors.get(each.label, UNNAMED)
            ax.plot([x, x], one.span, color=color, linewidth=1.2, linestyle=dash(one.n), zorder=2)
            ax.plot(x, y, "o", color=color, markersize=6, zorder=3)
        if max(points)[0] > 3 * min(points)[0]:
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            ax.xaxis.set_minor_locator(NullLocator())
        else:
            ax.xaxis.set_major_locator(MaxNLocator(4))
        ax.set_xlabel(label, color=INK)
        frame(ax)
    title(panels[0], f"{study.metric}, mean over seeds")
    bottom, top = panels[-1].get_ylim()
    panels[-1].set_ylim(*roomy(bottom, top, resolution(study)))
    label_ends(panels[-1], [(score[label].mean, short(label), color, False) for label, color in colors.items()])
    caption = (
        "The line joins what no other configuration betters in both (the Pareto front). "
        f"Vertical: 95 % intervals, for {ENOUGH} seeds or more; dotted: two seeds, from one to the other."
    )
    return figure, Picture("tradeoffs", "What the score costs", caption)


def scaling(study: Study) -> tuple[Figure, Picture] | None:
    """The error over the number of training images, both logarithmic, with a power law for each family."""
    families: dict[str, list[Configuration]] = {}
    for each in study.configurations:
        families.setdefault(repr(sorted(each.family.items())), []).append(each)
    groups = [[run for each in group for run in each.runs] for group in families.values()]
    series = {}
    for label, runs in zip(called(groups, [group[0].family for group in families.values()]), groups, strict=True):
        known = [(run.summary["images"]["train"], error(study, float(run.score(study.metric)))) for run in runs]
        if len({size for size, _ in known}) > 1 and min(value for _, value in known) > 0:
            series[label] = sorted(known)
    if not series:
        return None
    figure, ax = sheet(7, 4.2)
    ends = []
    for (label, known), color in zip(series.items(), HUES * len(series), strict=False):
        x, y = map(np.array, zip(*known, strict=True))
        law = power_law(x.tolist(), y.tolist())
        fine = np.geomspace(x.min(), x.max(), 50)
        ax.plot(x, y, "o", color=color, markersize=5, alpha=0.8)
        ax.plot(fine, law.a * fine**-law.b, color=color, linewidth=1.5)
        margin = "" if math.isnan(law.margin) else f" ± {law.margin:.3f}"
        text = f"{short(label)}  b = {law.b:.3f}{margin}"
        ends.append((law.a * x.max() ** -law.b, text, color, False))
    ax.set(xscale="log", yscale="log")
    sizes = sorted({size for known in series.values() for size, _ in known})
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("training images", color=INK)
    title(ax, study.metric if lower_is_better(study.metric) else f"error: 100 - {study.metric} (%)")
    label_ends(ax, ends)
    caption = (
        "A point a run; the lines are error = a · n^-b, fitted to the logarithms (b with its 95 % interval). Within "
        "a family the amount of data alone differs. Two sizes fix a line: it is evidence of a power law from three on."
        + "".join(f" {text}" for text in equals(series))
    )
    return figure, Picture("scaling", "Error and the amount of data", caption)


def equals(series: dict[str, list[tuple[int, float]]]) -> list[str]:
    """With how many images one family has come down to the error that another has with all of its own."""
    means = {label: pd.DataFrame(known).groupby(0)[1].mean() for label, known in series.items()}
    said = []
    for (better, ours), (other, theirs) in permutations(means.items(), 2):
        size = size_for(theirs.iloc[-1], ours.index.tolist(), ours.tolist())
        if size < theirs.index[-1]:
            said.append(
                f"The error that {other} has with {theirs.index[-1]:,} images, {better} has with about {size:,.0f} "
                "(on the straight line between the means of its two nearest sizes)."
            )
    return said


def classes(study: Study) -> tuple[Figure, Picture] | None:
    """The classes whose accuracy changed most from the reference to the best that is compared with it."""
    bases = {each.label: base for each, base in opposed(study.configurations, study.reference)}
    best = next((each for each in study.ranked() if each.label in bases), None)
    if best is None or any(run.classes.empty for each in (best, bases[best.label]) for run in each.runs):
        return None
    reference = bases[best.label]
    change = (by_class(best) - by_class(reference)).dropna().round(6).sort_values(kind="stable")
    chosen = change if len(change) <= 2 * CLASSES else pd.concat([change.head(CLASSES), change.tail(CLASSES)])
    if chosen.empty:
        return None
    figure, ax = sheet(7, 0.9 + 0.26 * len(chosen))
    places = range(len(chosen))
    ax.barh(places, chosen, color=[BLUE if value > 0 else ORANGE for value in chosen], height=0.7, zorder=2)
    ax.axvline(0, color=INK, linewidth=1, zorder=3)
    images = reference.runs[0].classes["images"].median()
    ax.set_xlim(*roomy(*ax.get_xlim(), 100 / images))
    ax.set_yticks(places, [str(name).replace("_", " ") for name in chosen.index], parse_math=False)
    ax.set_ylim(-0.6, len(chosen) - 0.4)
    ax.grid(visible=False, axis="y")
    title(ax, f"test top-1 by class, {short(best.label)} minus {short(reference.label)} (points)")
    caption = (
        f"The most changed of {len(change)} classes, of about {images:.0f} test images each (means over "
        f"{len(best.runs)} and {len(reference.runs)} runs). The ends of so many differences are large by chance "
        "too: this shows where to look, not what is so."
    )
    return figure, Picture("classes", "Classes", caption)


def by_class(configuration: Configuration) -> pd.Series:
    """Class -> mean accuracy over the runs."""
    return pd.concat([run.classes.set_index("class")["top1"] for run in configuration.runs], axis=1).mean(axis=1)


def error(study: Study, score: float) -> float:
    """What a power law is about: a loss, or what an accuracy leaves to 100 %."""
    return score if lower_is_better(study.metric) else 100 - score


def resolution(study: Study) -> float:
    """The smallest difference that a picture may fill an axis with: an image of those scored; of a loss, 0.01 nats."""
    if lower_is_better(study.metric):
        return 0.01
    images = [run.summary["images"].get(study.metric.partition("_")[0]) for _, run in study.runs]
    return 100 / min(filter(None, images), default=10_000)


def roomy(low: float, high: float, least: float) -> tuple[float, float]:
    """The limits of an axis, moved apart where they are nearer than `least` to each other."""
    missing = max(0.0, least - (high - low)) / 2
    return low - missing, high + missing


def dash(n: int) -> str:
    """How a line shows what is known of n scores: an interval, or the extent of two."""
    return "-" if n >= ENOUGH else ":"


def read_overlay(path: Path) -> pd.DataFrame:
    """A published curve.

    Raises:
        ValueError: not a CSV with the columns that are drawn.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as problem:
        raise ValueError(f"overlays: {path} cannot be read ({problem})") from None
    missing = [key for key in PUBLISHED if key not in table]
    if missing or table.empty:
        what = f"has no {', '.join(missing)}" if missing else "is empty"
        raise ValueError(
            f"overlays: {path} {what}; columns: epoch (from 0), train_loss, train_acc, val_loss, val_acc, lr"
        )
    return table


def lines(
    ax: Axes,
    study: Study,
    key: str,
    colors: dict[str, str],
    form: str,
    more: Iterable[tuple[float, str, str, bool]] = (),
    *,
    by_images: bool = False,
) -> None:
    """A line and a band for each configuration, named at their ends, with `more` that has been drawn."""
    ends = [*more]
    for each in sorted(study.configurations, key=lambda each: each.label in colors):
        table = course(each, key)
        if table.empty:
            continue
        color, mean = colors.get(each.label, UNNAMED), table.mean(axis=1)
        x = table.index * (each.runs[0].summary["images"]["train"] / 1000 if by_images else 1)
        ax.fill_between(x, table.min(axis=1), table.max(axis=1), color=color, alpha=0.15, linewidth=0)
        ax.plot(x, mean, color=color, linewidth=1.8, marker=dot(len(mean)), markersize=4)
        if each.label in colors:
            value = float(mean.iloc[-1])
            ends.append((value, f"{short(each.label)}  {form.format(value)}", color, False))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    frame(ax)
    ax.set_ylim(*roomy(*ax.get_ylim(), 0.01))
    label_ends(ax, ends)


def palette(study: Study) -> dict[str, str]:
    """Label -> colour of the reference and of the best others; the rest is not named in pictures."""
    return {study.reference.label: INK} | dict(zip((each.label for each in study.ranked()), HUES, strict=False))


def front(points: Iterable[tuple[float, float]], *, lower: bool) -> list[tuple[float, float]]:
    """The points (cost, score) that no other is as good as in both and better in one; by cost."""
    best: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], point[1] if lower else -point[1])):
        if not best or (score < best[-1][1] if lower else score > best[-1][1]):
            best.append((cost, score))
    return best


def sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one panel, in inches."""
    figure = Figure(figsize=(width, height), facecolor="white")
    ax = figure.subplots()
    frame(ax)
    return figure, ax


def title(ax: Axes, text: str) -> None:
    """What a panel shows, over its left edge."""
    ax.set_title(text, loc="left", fontsize=10.5, color=INK, pad=8, parse_math=False)


def short(label: str) -> str:
    """A label that fits beside a picture."""
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"


def dot(points: int) -> str:
    """A short curve is seen by its points, a long one by its line."""
    return "o" if points <= 12 else ""
