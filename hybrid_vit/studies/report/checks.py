"""What keeps runs from being comparable, or a score from being honest: configurations -> sentences of warning."""

from collections import Counter
from collections.abc import Callable, Sequence
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
    ("start from trained weights", lambda run: bool(run.summary.get("pretrained")), "not all began fresh"),
    ("device", lambda run: run.summary["device"], "seconds and images/s are not comparable"),
    ("threads", lambda run: run.summary["threads"], "seconds and images/s are not comparable"),
    ("precision", lambda run: run.summary["accelerator"]["precision"], "rounding may be a part of a difference"),
    ("versions", lambda run: versions(run), "the libraries may be a part of a difference"),
    ("commit", lambda run: (run.summary["commit"] or "unknown")[:10], "the code may be a part of a difference"),
)
LOOKED = "test set looked at every epoch"


def source(run: Run) -> str:
    """The data, with the place of those that are known by it."""
    name = run.settings["data.source"]
    return f"{name} {run.settings['data.root']}" if name in LOCATED else name


def scoring(run: Run) -> str:
    """Which weights were scored, as the protocol says it last."""
    return run.summary["protocol"].rpartition("; ")[2].removesuffix(f", {LOOKED}")


def versions(run: Run) -> str:
    """The libraries of a run, as one text."""
    return ", ".join(f"{name} {number}" for name, number in run.summary["versions"].items())


def commit(run: Run) -> str:
    """The code of a run; "+" stands for changed files."""
    text = run.summary["commit"] or "unknown"
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
    found += amounts(configurations, pairs)
    if any("+" in (run.summary["commit"] or "") for run in runs):
        found.append("Some runs were made with changed files: their commit does not say with which code.")
    if not all(run.summary["commit"] for run in runs):
        found.append("Some runs were made outside a repository: it is unknown with which code.")
    return found + numbers(configurations)


def honesty(configurations: Sequence[Configuration], runs: Sequence[Run], metric: str) -> list[str]:
    """Where a score was chosen by, or looked at on, the images that it is reported for."""
    found = []
    looked = [configuration.label for configuration in configurations if any(map(peeked, configuration.runs))]
    if looked:
        found.append(
            f"The test set was looked at every epoch while these were trained: {'; '.join(looked)}. "
            "If anything was decided by what was seen, their test scores are optimistic."
        )
    if metric.startswith("val_"):
        found.append(f"{metric} is a score of the images that training was watched on; it is no test score.")
    elif len(configurations) > 1:
        validated = all("val_top1" in run.summary["scores"] for run in runs)
        remedy = "Instead," if validated else "Instead, train with validation images (data.val_size=N) and"
        found.append(
            f"Whoever picks the best of these {len(configurations)} configurations by {metric} selects on the test "
            f"set, and the score of the one picked is optimistic. {remedy} pick by validation (metric=val_top1)."
        )
    return found


def peeked(run: Run) -> bool:
    """Whether the test set was looked at during training."""
    return LOOKED in run.summary["protocol"]


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
            "These were trained on another number of images than what they are compared with, and differ from it in "
            f"other ways too: {'; '.join(mixed)}. Their differences are not of one cause."
        )
    seen = [
        f"{each.label} ({each.images_seen:,.0f} against {base.images_seen:,.0f})"
        for each, base in pairs
        if each.images_seen != base.images_seen
    ]
    if seen:
        found.append(
            f"These saw another number of images in training than what they are compared with: {'; '.join(seen)}. "
            "Their differences are those of longer or shorter training too."
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
