"""What keeps runs from being comparable, or a score from being honest: configurations -> sentences of warning."""

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from hybrid_vit.studies.report.records import Configuration, Pair, Run, shown
from hybrid_vit.utils.paths import LOCATED

Value = Callable[[Run], Any]

# What must be the same in all runs, how it is found, and what a difference means.
EQUAL: tuple[tuple[str, Value, str], ...] = (
    ("data", lambda run: source(run), "scores on different data are not comparable"),
    ("image size", lambda run: run.settings["data.image_size"], "the task is not the same"),
    ("number of test images", lambda run: run.summary["images"].get("test"), "the scores are of different test sets"),
    ("scoring", lambda run: scoring(run), "the scores were computed in different ways"),
    ("validation split", lambda run: "val" in run.summary["images"], "some were trained without one"),
    (
        "start from trained weights",
        lambda run: bool(run.summary.get("pretrained")),
        "a difference may be that of the start",
    ),
    ("device", lambda run: in_turn(run, itemgetter("device")), "seconds and images/s are not comparable"),
    ("threads", lambda run: in_turn(run, itemgetter("threads")), "seconds and images/s are not comparable"),
    ("precision", lambda run: in_turn(run, precision), "rounding may be a part of a difference"),
    ("versions", lambda run: in_turn(run, versions), "the libraries may be a part of a difference"),
    ("commit", lambda run: in_turn(run, lambda part: commit(part)[:10]), "the code may be a part of a difference"),
)
LOOKED = "test set looked at every epoch"


def source(run: Run) -> str:
    """The data, with the place of those that are known by it."""
    name = run.settings["data.source"]
    return f"{name} {run.settings['data.root']}" if name in LOCATED else name


def scoring(run: Run) -> str:
    """Which weights were scored, as the protocol says it last."""
    return run.summary["protocol"].rpartition("; ")[2].removesuffix(f", {LOOKED}")


def parts(run: Run) -> list[dict[str, Any]]:
    """Machine and code of each part of a run that continued elsewhere or with other code, in turn."""
    return [*run.summary.get("earlier", []), run.summary]


def in_turn(run: Run, value: Callable[[dict[str, Any]], Any]) -> str:
    """A value of each part of a run, if they differ."""
    return ", then ".join(text for text, _ in groupby(shown(value(part)) for part in parts(run)))


def precision(part: dict[str, Any]) -> str:
    """In which a part of a run was computed."""
    return part["accelerator"]["precision"]


def versions(part: dict[str, Any]) -> str:
    """The libraries of a part of a run, as one text."""
    return ", ".join(f"{name} {number}" for name, number in part["versions"].items())


def commit(part: dict[str, Any]) -> str:
    """The code of a part of a run; "+" stands for changed files."""
    text = part["commit"] or "unknown"
    return text[:10] + "+" * text.endswith("+")


def warnings(configurations: Sequence[Configuration], pairs: Sequence[Pair], metric: str) -> list[str]:
    """Every reason to read the report with care, the most serious first."""
    runs = [run for configuration in configurations for run in configuration.runs]
    found = [*honesty(configurations, runs, metric)]
    for name, value, meaning in EQUAL:
        counts = Counter(shown(value(run)) for run in runs)
        if len(counts) > 1:
            kinds = "; ".join(f"{kind} ({count} run{'s' * (count > 1)})" for kind, count in counts.items())
            found.append(f"The runs differ in {name}: {kinds}. So {meaning}.")
    found += same_settings(configurations)
    found += amounts(configurations, pairs)
    commits = [part["commit"] for run in runs for part in parts(run)]
    if any("+" in (text or "") for text in commits):
        found.append("Some runs were made with changed files: their commit does not say with which code.")
    if not all(commits):
        found.append("Some runs were made outside a repository: it is unknown with which code.")
    return found + numbers(configurations)


def honesty(configurations: Sequence[Configuration], runs: Sequence[Run], metric: str) -> list[str]:
    """Where a score was chosen by, or looked at on, the images that it is reported for."""
    found = []
    looked = [each.label for each in configurations if any(LOOKED in run.summary["protocol"] for run in each.runs)]
    if looked:
        found.append(
            f"The test set was looked at every epoch while these were trained: {'; '.join(looked)}. "
            "If anything was decided by what was seen, their test scores are optimistic."
        )
    seen = [each.label for each in configurations if any(map(known_validation, each.runs))]
    if seen:
        found.append(
            f"The initial weights of these were perhaps trained on the validation images: {'; '.join(seen)}. Their "
            "validation scores are too high: choose nothing by them."
        )
    if metric.startswith("val_"):
        found.append(f"{metric} is a score of the images that training was watched on; it is no test score.")
    elif len(configurations) > 1:
        validated = all("val_top1" in run.summary["scores"] for run in runs)
        remedy = "Instead," if validated else "Instead, train with validation images (data.val_size=N) and"
        found.append(
            f"The best of these {len(configurations)} configurations by {metric} would be chosen on the test set, so "
            "its score is too high on average." + ("" if seen else f" {remedy} pick by validation (metric=val_top1).")
        )
    return found


def known_validation(run: Run) -> bool:
    """Whether the weights that a run began with were perhaps trained on its validation images."""
    source: dict[str, Any] | None = run.summary.get("init_from")
    return source is not None and "val" in run.summary["images"] and source.get("may_know_validation", True)


def same_settings(configurations: Sequence[Configuration]) -> list[str]:
    """Configurations whose runs have the same settings, and not the same images or initial weights."""
    return [
        f"The runs of {each.label} have the same settings, but not the same {what}: they are no repetitions."
        for each in configurations
        for what, kinds in (
            ("images", {run.images for run in each.runs}),
            ("initial weights", {run.initial_weights for run in each.runs}),
        )
        if len(kinds - {None}) > 1
    ]


def amounts(configurations: Sequence[Configuration], pairs: Sequence[Pair]) -> list[str]:
    """Comparisons that mix the amount of data or of training with something else."""
    found = []
    sizes = [(each, base, *(c.runs[0].summary["images"]["train"] for c in (each, base))) for each, base in pairs]
    mixed = [
        f"{each.label} ({its:,} against {other:,})"
        for each, base, its, other in sizes
        if its != other and each.family != base.family
    ]
    if mixed:
        found.append(
            "These were trained on another number of images than the compared runs, and differ from them in other ways "
            f"too: {'; '.join(mixed)}. Their differences are not of one cause."
        )
    seen = [
        f"{each.label} ({each.images_seen:,.0f} against {base.images_seen:,.0f})"
        for each, base in pairs
        if each.images_seen != base.images_seen
    ]
    if seen:
        found.append(
            f"The number of training images seen differs from that of the compared runs: {'; '.join(seen)}. "
            "So their differences are also those of longer or shorter training."
        )
    for each in configurations:
        steps = {run.summary["steps"] for run in each.runs}
        if len(steps) > 1:
            stopped = any("stopped_early" in run.summary for run in each.runs)
            why = ": early stopping ended them" if stopped else ", as a budget of time allows"
            found.append(f"The runs of {each.label} have {min(steps):,} to {max(steps):,} steps{why}.")
    return found


def numbers(configurations: Sequence[Configuration]) -> list[str]:
    """Too few seeds, or not the same."""
    found = []
    single = [each.label for each in configurations if len(each.runs) == 1]
    if single:
        found.append(f"n = 1, so neither an interval nor a test: {'; '.join(single)}.")
    seeds = Counter(tuple(sorted(run.seed for run in each.runs)) for each in configurations)
    if len(seeds) > 1:
        sets = "; ".join(f"{', '.join(map(str, kind))} ({n} configuration{'s' * (n > 1)})" for kind, n in seeds.items())
        found.append(f"Not all configurations have the same seeds: {sets}.")
    return found
