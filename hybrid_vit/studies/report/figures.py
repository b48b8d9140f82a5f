"""The pictures of a report: a study -> each picture that its data call for, as PNG and SVG."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from hybrid_vit.evaluation.statistics import ENOUGH, Comparison, estimate, pareto, power_law, size_for
from hybrid_vit.studies.report.claims import lower_is_better, told_apart, unit, written
from hybrid_vit.studies.report.curves import curves, overlay
from hybrid_vit.studies.report.records import Configuration
from hybrid_vit.studies.report.study import Study, families, opposed
from hybrid_vit.studies.report.style import (
    Picture,
    cut,
    interval,
    quantity,
    resolution,
    roomy,
    sheet,
    short,
    styles,
    visible,
)
from hybrid_vit.utils.plots import BLUE, FAINT, INK, ORANGE, OTHER, SERIES, End, frame, label_ends, line, log_axis, save

UNNAMED = "#c4c4c4"
CLASSES = 20  # shown


def draw(study: Study, overlays: dict[str, pd.DataFrame], out: Path) -> list[Picture]:
    """Draw what the data call for into `out`, with published curves by their names."""
    drawers: list[Callable[[Study], tuple[Figure, Picture] | None]] = [differences, curves, tradeoffs, scaling, classes]
    if overlays:
        drawers.insert(2, lambda study: overlay(study, overlays))
    pictures = []
    for found in (drawer(study) for drawer in drawers):
        if found:
            for suffix in ("png", "svg"):
                save(found[0], out / f"{found[1].name}.{suffix}", dpi=150, bbox_inches="tight", pad_inches=0.15)
            pictures.append(found[1])
    return pictures


def differences(study: Study) -> tuple[Figure, Picture] | None:
    """A bar a configuration: its difference to the reference with the interval; grey if it cannot be told apart.

    It is narrow, with its names over the bars: on a phone it is the first that is seen.
    """
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
    figure, ax = sheet(5.6, 0.9 + 0.46 * len(found))
    better = -1 if lower_is_better(study.metric) else 1
    values, spans = [c.difference for _, c in found], [c.span for _, c in found]
    parts = visible(values, spans, [0])
    for place, ((label, c), part) in enumerate(zip(found, parts, strict=True)):
        color = (BLUE if better * c.difference > 0 else ORANGE) if told_apart(c) else UNNAMED
        ax.barh(place, c.difference, color=color, height=0.4, zorder=2)
        interval(ax, place, c.span, part, c.n, INK, upright=False)
        for x, text, side in ((0, label, "left"), (1, measured(c, study.metric), "right")):
            words = ax.text(x, place + 0.24, text, ha=side, transform=ax.get_yaxis_transform(), parse_math=False)
            words.set(va="bottom", fontsize=9, color=INK, zorder=5)
            words.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})
    ax.axvline(0, color=INK, linewidth=1, zorder=4)
    reach = [0.0, *values, *(end for part in parts for end in part if not math.isnan(end))]
    ax.set_xlim(*roomy(1.05 * min(reach), 1.05 * max(reach), resolution(study)))
    ax.set_ylim(-0.4, len(found) - 0.3)
    ax.set_yticks([])
    reference = "the reference at the same amount of data" if len(bases) > 1 else short(*bases)
    what = quantity(study.metric).partition(" (")[0]
    frame(ax, f"{what.capitalize()} minus {reference}", f"difference of {what} ({unit(study.metric)})")
    ax.grid(visible=False, axis="y")
    caption = (
        "Blue is better and orange worse than the reference; grey cannot be told apart from it (p of 0.05 or more "
        f"after Holm, or fewer than {ENOUGH} scores). Lines: 95 % intervals; dotted: n = 2, from the lowest to the "
        f"highest difference. n: pairs, or scores of the smaller side.{cut(spans, parts)}"
    )
    if len(found) > len(usual):
        caption += " \u201cA against B\u201d: A minus B."
    return figure, Picture("differences", "Differences to the reference", caption)


def measured(c: Comparison, metric: str) -> str:
    """A difference, what is known of its spread, and n."""
    difference, low, high = (written(value, metric, "+") for value in (c.difference, *c.span))
    spread = "" if math.isnan(c.span[0]) else f" ({low} to {high})"
    return f"{difference}{spread}, n = {c.n}"


def tradeoffs(study: Study) -> tuple[Figure, Picture] | None:
    """The score over what each configuration costs, with the front of those that no other betters in both.

    The costs are parameters, MACs of an image and seconds of training. Where all runs had the same budget of time, the
    computing that fitted into it stands in place of the seconds.
    """
    if len({(each.mean("parameters"), each.mean("macs")) for each in study.configurations}) < 2:
        return None
    named = styles(study)
    scores = [estimate([*each.scores(study.metric).values()]) for each in study.configurations]
    means = [score.mean for score in scores]
    spans = [score.span for score in scores]
    parts = visible(means, spans)
    sign = -1 if lower_is_better(study.metric) else 1
    figure = Figure(figsize=(10.5, 4.2), facecolor="white")
    panels = figure.subplots(1, 3, sharey=True, gridspec_kw={"wspace": 0.08})
    summaries = [run.summary for _, run in study.runs]
    budget = summaries[0].get("budget")
    computed = budget and all(found.get("budget") == budget and "gmac_epochs" in found for found in summaries)
    costs = (
        ("parameters", "parameters (millions)", 1e-6),
        ("macs", "MACs an image (millions)", 1e-6),
        ("gmac_epochs", "forward GMACs x epochs", 1.0) if computed else ("seconds", "seconds of training", 1.0),
    )
    for ax, (key, label, scale) in zip(panels, costs, strict=True):
        points = [(scale * each.mean(key), mean) for each, mean in zip(study.configurations, means, strict=True)]
        best = pareto(points, cost=lambda point: point[0], gain=lambda point: sign * point[1])
        ax.plot(*zip(*best, strict=True), color=FAINT, linewidth=1, drawstyle="steps-post", zorder=1)
        ends = []
        for each, (x, y), score, part in zip(study.configurations, points, scores, parts, strict=True):
            style = named.get(each.label, OTHER)
            interval(ax, x, score.span, part, score.n, style.color, upright=True)
            ax.plot(x, y, style.marker, color=style.color, markersize=7, zorder=3)
            if each.label in named:
                ends.append(End(x, y, short(each.label), style))
        if max(points)[0] > 3 * min(points)[0]:
            log_axis(ax, "x")
        else:
            ax.xaxis.set_major_locator(MaxNLocator(4))
        frame(ax, x=label)
    what = quantity(study.metric)
    frame(panels[0], f"{what.partition(' (')[0].capitalize()} and what it costs", costs[0][1], what)
    bottom, top = panels[-1].get_ylim()
    panels[-1].set_ylim(*roomy(bottom, top, resolution(study)))
    label_ends(panels[-1], ends)
    caption = (
        "Means over seeds. The line is the Pareto front: no other configuration is better in both quantities. "
        f"Vertical: 95 % intervals, for {ENOUGH} seeds or more; dotted: two seeds, from one to the other."
        + cut(spans, parts)
    )
    return figure, Picture("tradeoffs", "What the score costs", caption)


def scaling(study: Study) -> tuple[Figure, Picture] | None:
    """The error over the number of training images, with a power law for each family, and how far it misses.

    Two sizes fix a law, so nothing is said of it until a family has three.
    """
    series, perfect = {}, []
    for label, group in families(study).items():
        runs = [run for each in group for run in each.runs]
        scores = [(run.summary["images"]["train"], float(run.score(study.metric))) for run in runs]
        known = [(size, score if lower_is_better(study.metric) else 100 - score) for size, score in scores]
        if len({size for size, _ in known}) < 2:
            continue
        if min(value for _, value in known) > 0:
            series[label] = sorted(known)
        else:
            perfect.append(short(label))
    if not series:
        return None
    tested = any(len({size for size, _ in known}) > 2 for known in series.values())
    figure = Figure(figsize=(7, 6.4 if tested else 4.4), facecolor="white")
    shape = {"height_ratios": (5, 2.4)[: 1 + tested], "hspace": 0.16}
    upper, *lower = figure.subplots(1 + tested, 1, sharex=True, squeeze=False, gridspec_kw=shape)[:, 0]
    ends = []
    for (label, known), style in zip(series.items(), SERIES * len(series), strict=False):
        x, y = map(np.array, zip(*known, strict=True))
        law = power_law(x.tolist(), y.tolist())
        fitted = law.a * x**-law.b
        upper.plot(x, y, style.marker, color=style.color, markersize=5, alpha=0.8)
        upper.plot(x, fitted, color=style.color, linewidth=1.5, linestyle=style.dash)  # straight on these axes
        missed = pd.Series(100 * (y / fitted - 1), x).groupby(level=0).mean()
        law_tested = len(missed) > 2
        for ax in lower if law_tested else ():
            ax.add_line(line(missed.index.to_numpy(), missed.to_numpy(), style))
        margin = "" if math.isnan(law.margin) else f" ± {law.margin:.3f}"
        ends.append(End(x.max(), fitted[-1], short(label) + law_tested * f"  b = {law.b:.3f}{margin}", style))
    log_axis(upper, "x", ticks=sorted({size for known in series.values() for size, _ in known}))
    log_axis(upper, "y")
    upper.yaxis.set_major_locator(MaxNLocator(6))
    what = quantity(study.metric) if lower_is_better(study.metric) else f"100 - {quantity(study.metric)}"
    for ax in lower:
        ax.autoscale_view()
        ax.axhline(0, color=INK, linewidth=1, zorder=1)
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:+g}"))
        frame(ax, "Where the law misses: measured minus fitted error", "training images", "% of the fitted error")
    title = "Error and the amount of data"
    laws = ": runs, and a power law for each family" if tested else ""
    frame(upper, title + laws, "" if tested else "training images", what)
    label_ends(upper, ends)
    caption = (
        "Above, a point a run; the lines are error = a · n^-b, fitted to the logarithms (b with its 95 % interval). "
        "Below, the mean of each size against the law: a curve instead of random scatter about 0 means that no "
        "power law holds. "
        "Any two sizes lie on a line, so only three sizes or more are evidence of a power law."
        if tested
        else "A point a run; the lines join the means of the logarithms."
    )
    told = ["Within a family the amount of data alone differs.", *equals(series)]
    if perfect:
        told.append(f"Left out, since a run without errors has no logarithm: {'; '.join(perfect)}.")
    return figure, Picture("scaling", title, " ".join([caption, *told]))


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
    return [*said, "These are means: the comparisons say which of their differences are significant."] if said else []


def classes(study: Study) -> tuple[Figure, Picture] | None:
    """The classes whose accuracy changed most from the reference to the best that is compared with it."""
    bases = {each.label: base for each, base in opposed(study.configurations, study.reference)}
    best = next((each for each in study.ranked() if each.label in bases), None)
    if best is None or any(run.classes.empty for each in (best, bases[best.label]) for run in each.runs):
        return None
    reference = bases[best.label]
    change = (by_class(best) - by_class(reference)).dropna().round(6).sort_values(kind="stable")
    chosen = change[change.abs().rank(method="first", ascending=False) <= CLASSES]
    if chosen.empty:
        return None
    figure, ax = sheet(7, 0.9 + 0.26 * len(chosen))
    places = range(len(chosen))
    ax.barh(places, chosen, color=[BLUE if value > 0 else ORANGE for value in chosen], height=0.7, zorder=2)
    ax.axvline(0, color=INK, linewidth=1, zorder=3)
    counts = reference.runs[0].classes["images"]
    images = counts[counts > 0].median()
    ax.set_xlim(*roomy(*ax.get_xlim(), 100 / images))
    ax.set_yticks(places, [str(name).replace("_", " ") for name in chosen.index], parse_math=False)
    ax.set_ylim(-0.6, len(chosen) - 0.4)
    title = f"Test top-1 by class: {short(best.label)} minus {short(reference.label)}"
    frame(ax, title, "difference of test top-1 (points)")
    ax.grid(visible=False, axis="y")
    caption = (
        f"The most changed of {len(change)} classes, of about {images:.0f} test images each (means over "
        f"{len(best.runs)} and {len(reference.runs)} runs). The ends of so many differences are large by chance "
        "too: this shows where to look, not what is so."
    )
    return figure, Picture("classes", "Classes", caption)


def by_class(configuration: Configuration) -> pd.Series:
    """Class -> mean accuracy over the runs."""
    return pd.concat([run.classes.set_index("class")["top1"] for run in configuration.runs], axis=1).mean(axis=1)
