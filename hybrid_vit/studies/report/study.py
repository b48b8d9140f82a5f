"""The whole of a report in numbers: directories -> configurations, comparisons with the reference, tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd

from hybrid_vit.evaluation.statistics import Comparison, compare, estimate, family
from hybrid_vit.studies.report.checks import commit, in_turn, precision, versions
from hybrid_vit.studies.report.claims import lower_is_better, sentence
from hybrid_vit.studies.report.records import (
    Configuration,
    LeftOut,
    Pair,
    Run,
    arrange,
    called,
    collect,
    differing,
    shown,
)
from hybrid_vit.utils.errors import UserError


@dataclass(frozen=True)
class Study:
    """What there is to report.

    Attributes:
        comparisons: a configuration, the one that it is compared with, their comparison.
    """

    metric: str
    configurations: list[Configuration]
    reference: Configuration
    comparisons: list[tuple[Configuration, Configuration, Comparison]]
    left_out: list[LeftOut]

    @property
    def runs(self) -> list[tuple[Configuration, Run]]:
        return [(each, run) for each in self.configurations for run in each.runs]

    def mean(self, configuration: Configuration) -> float:
        """The mean score of a configuration."""
        return estimate([*configuration.scores(self.metric).values()]).mean

    def ranked(self) -> list[Configuration]:
        """The configurations but for the reference, best first."""
        others = [each for each in self.configurations if each is not self.reference]
        return sorted(others, key=self.mean, reverse=not lower_is_better(self.metric))


def study(
    places: Sequence[Path],
    *,
    metric: str,
    reference: str | None,
    pairs: Sequence[Sequence[str]] = (),
) -> Study:
    """Collect the runs at `places`, group them, compare each configuration with the reference.

    Where the reference was trained on several amounts of data, another is compared with it at its own amount.

    Args:
        places: run directories, or folders that hold some at any depth.
        metric: the score that is compared, a key of a summary's scores.
        reference: the label of the configuration that the others are compared with; the first if None.
        pairs: labels of further configurations to compare, the first of each with the second.

    Raises:
        UserError: nothing usable, no configuration of that label, or a pair that is none.
    """
    runs, left_out = collect(places, metric)
    configurations = arrange(runs)
    base = named(configurations, reference, "reference") if reference is not None else configurations[0]
    opponents = opposed(configurations, base)
    for labels in pairs:
        if len(set(labels)) != 2 or len(labels) != 2:
            raise UserError(f"pairs: [{', '.join(labels)}] are not two configurations; write pairs=[[A,B],[C,D]]")
        one, other = (named(configurations, label, "pairs") for label in labels)
        if not any({one.label, other.label} == {each.label, against.label} for each, against in opponents):
            opponents.append((one, other))
    found = family([compare(each.scores(metric), other.scores(metric)) for each, other in opponents])
    comparisons = [(*pair, comparison) for pair, comparison in zip(opponents, found, strict=True)]
    return Study(metric, configurations, base, comparisons, left_out)


def named(configurations: Sequence[Configuration], label: str, setting: str) -> Configuration:
    """The configuration of a label; UserError if there is none."""
    found = next((each for each in configurations if each.label == label), None)
    if found is None:
        labels = "; ".join(each.label for each in configurations)
        raise UserError(f"{setting}: {label} is not a configuration; it is one of: {labels}")
    return found


def opposed(configurations: Sequence[Configuration], reference: Configuration) -> list[Pair]:
    """Each configuration with what it is compared with: the reference, at its own amount of data if it is there."""
    references = [each for each in configurations if each.family == reference.family]
    pairs = []
    for each in configurations:
        if each.family != reference.family:
            pairs.append((each, next((one for one in references if one.amount == each.amount), reference)))
    bases = [reference, *(base for _, base in pairs)]
    return pairs + [(each, reference) for each in references if all(each is not base for base in bases)]


def runs_table(study: Study) -> pd.DataFrame:
    """A row a run: configuration, directory, seed, scores, size, cost, machine."""
    return pd.DataFrame(
        [
            {"configuration": each.label, "directory": str(run.directory), "seed": run.seed}
            | {key: float(run.score(key)) for key, value in run.summary["scores"].items() if value is not None}
            | {key: run.summary[key] for key in ("parameters", "macs", "steps", "seconds", "images_per_second")}
            | {"images_seen": run.images_seen, "training_images": run.summary["images"]["train"]}
            | {key: in_turn(run, itemgetter(key)) for key in ("device", "threads")}
            | {"protocol": run.summary["protocol"], "precision": in_turn(run, precision)}
            | {"versions": in_turn(run, versions), "commit": in_turn(run, commit)}
            for each, run in study.runs
        ]
    )


def comparisons_table(study: Study) -> pd.DataFrame:
    """A row a comparison: all its figures and its sentence."""
    columns = ["configuration", "reference", "metric", *Comparison._fields, "sentence"]
    return pd.DataFrame(
        [
            (each.label, base.label, study.metric, *found, sentence(each.label, base.label, study.metric, found))
            for each, base, found in study.comparisons
        ],
        columns=columns,
    )


def settings_table(study: Study) -> pd.DataFrame:
    """A row a setting that is not the same in all configurations, a column a configuration."""
    keys = differing([each.settings for each in study.configurations])
    columns = {
        each.label: [shown(each.settings[key]) if key in each.settings else "" for key in keys]
        for each in study.configurations
    }
    return pd.DataFrame({"setting": keys, **columns})


def overlays_table(study: Study, overlays: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """How far each configuration is from each published curve after the last epoch that both have."""
    rows = []
    for each in study.configurations:
        for (ours, theirs), (name, published) in product(counterparts(study).items(), overlays.items()):
            there = published.set_index(published["epoch"] + 1)[theirs]
            pair = pd.concat([course(each, ours).mean(axis=1), there], axis=1, join="inner").dropna().tail(1)
            for epoch, (here, there) in zip(pair.index, pair.to_numpy(), strict=True):
                rows.append((each.label, name, ours, int(epoch), f"{here:.2f}", f"{there:.2f}", f"{here - there:+.2f}"))
    columns = ["configuration", "curve", "quantity", "epochs trained", "here", "published", "difference"]
    return pd.DataFrame(rows, columns=columns)


def families(study: Study) -> dict[str, list[Configuration]]:
    """Label -> the configurations that differ in the amount of data alone."""
    groups: dict[str, list[Configuration]] = {}
    for each in study.configurations:
        groups.setdefault(repr(sorted(each.family.items())), []).append(each)
    runs = [[run for each in group for run in each.runs] for group in groups.values()]
    labels = called(runs, [group[0].family for group in groups.values()])
    return dict(zip(labels, groups.values(), strict=True))


def counterparts(study: Study) -> dict[str, str]:
    """Columns of metrics.csv -> those of a published curve to be laid over; test if all have it."""
    logged = [run.epochs for _, run in study.runs if not run.epochs.empty]
    monitored = bool(logged) and all("published_test_top1" in epochs for epochs in logged)
    return {"published_test_top1" if monitored else "val_top1": "val_acc", "train_top1": "train_acc"}


def course(configuration: Configuration, key: str) -> pd.DataFrame:
    """Epochs trained -> a value of each run, as far as all of them have one; the last may be a part of an epoch."""
    columns = [run.epochs.set_index("epoch")[key] for run in configuration.runs if key in run.epochs]
    table = pd.concat(columns, axis=1).dropna() if columns else pd.DataFrame()
    if table.empty:
        return table
    epochs = pd.concat([trained(run) for run in configuration.runs if key in run.epochs], axis=1).mean(axis=1)
    return table.set_axis(epochs[table.index].round(6))


def trained(run: Run) -> pd.Series:
    """Epoch -> epochs trained when it had ended; of a run that was lengthened, one in the middle may be a part."""
    rows, whole = run.epochs.set_index("epoch"), run.summary["epochs"]
    if "step" in rows:
        return whole * rows["step"] / rows["step"].iloc[-1]
    return pd.Series(np.minimum(rows.index + 1, whole), rows.index)
