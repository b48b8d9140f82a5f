"""Directories -> the finished runs in them, and the configurations that those are repetitions of."""

import math
import os
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from hybrid_vit.config.changeable import CHANGEABLE, below
from hybrid_vit.config.saved import load_recorded_config
from hybrid_vit.evaluation.statistics import ROUNDING
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import read_json
from hybrid_vit.utils.paths import LOCATED

Settings = dict[str, Any]

# Who ran it, and how and where it was computed: no part of what a configuration is.
APART = ("name", "seed", "resume", "ema.compared", *CHANGEABLE)
ACCUMULATED = "trainer.accumulate_grad_batches"
AMOUNT = ("data.val_size", "data.fraction")  # how much of the data; the other keys of data say which
# What a summary must hold, and of what type.
NEEDED: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("seed", "steps", "parameters", "macs", "threads"), int),
    **dict.fromkeys(("epochs", "seconds", "images_per_second"), (int, float)),
    **dict.fromkeys(("scores", "images", "accelerator", "versions"), dict),
    **dict.fromkeys(("protocol", "device"), str),
    "commit": (str, type(None)),
}
PART = ("device", "threads", "accelerator", "versions", "commit")  # of a part of a run that continued elsewhere
COLUMNS = {"metrics": ("epoch",), "per_class": ("class", "images", "top1")}
TEXT = ("class", "taken_for")  # columns of words; the others are of numbers
FEW = 3  # a label states no more settings than these; the page has a table of all that differ
SKIPPED = {"data", "node_modules", "site-packages", "venv", "wandb"}  # hold no runs, but many files; also hidden ones
ENDLESS = 20_000  # folders without a single run: it is the wrong folder


@dataclass(frozen=True)
class Run:
    """A finished run: where it lies, the value of every dotted key, its summary, a row an epoch, a row a class.

    Attributes:
        images: how many it was trained and validated on, and the checksum of the test images; None if it is old.
    """

    directory: Path
    settings: Settings
    summary: dict[str, Any]
    epochs: pd.DataFrame
    classes: pd.DataFrame
    images: tuple[int, str] | None

    @property
    def seed(self) -> int:
        return self.summary["seed"]

    @property
    def initial_weights(self) -> str | None:
        """The checksum of the weights that it began with, if it began with some."""
        return (self.summary.get("init_from") or {}).get("sha256")

    def score(self, metric: str) -> Fraction:
        """A score of the summary; an accuracy as the exact share of the images, where their number is known.

        The test set's top-1 is counted from per_class.csv, so that it is what the page shows of the classes. A float32
        of the summary, too, stands for a whole number of images, unless it was counted in another way.
        """
        value = self.summary["scores"][metric]
        split, _, counted = metric.rpartition("_top")
        images = self.summary["images"].get(split.removeprefix("published_"))
        if not counted.isdecimal() or not images:
            return rounded_from(value)
        if metric == "test_top1" and not self.classes.empty and self.classes["images"].sum() == images:
            each = self.classes["images"] * self.classes["top1"].fillna(0) / 100
            if (each - each.round()).abs().max() <= ROUNDING * images:
                return Fraction(100 * int(each.round().sum()), images)
        hits = round(value * images / 100)
        whole = abs(value * images / 100 - hits) <= ROUNDING * images
        return Fraction(100 * hits, images) if whole else rounded_from(value)

    @property
    def images_seen(self) -> int:
        counted = self.epochs["images"].sum() if "images" in self.epochs else 0
        return int(counted) or self.summary["steps"] * self.settings["batch_size"] * self.settings.get(ACCUMULATED, 1)


@dataclass(frozen=True)
class LeftOut:
    """A directory that the report does not count, and why."""

    directory: Path
    why: str


@dataclass(frozen=True)
class Configuration:
    """Runs that differ in their seed alone, and what they are called in the report."""

    label: str
    runs: list[Run]

    @property
    def settings(self) -> Settings:
        return identity(self.runs[0])

    @property
    def family(self) -> Settings:
        """The settings but for the amount of data."""
        return {key: value for key, value in known(self.settings) if key not in AMOUNT}

    @property
    def amount(self) -> Settings:
        """The settings that say how much data there is."""
        return {key: value for key, value in self.settings.items() if key in AMOUNT}

    def scores(self, metric: str) -> dict[int, Fraction]:
        """Seed -> score."""
        return {run.seed: run.score(metric) for run in self.runs}

    @property
    def images_seen(self) -> float:
        return sum(run.images_seen for run in self.runs) / len(self.runs)

    def mean(self, key: str) -> float:
        """The mean of a number of the summaries."""
        return sum(run.summary[key] for run in self.runs) / len(self.runs)


def rounded_from(value: float) -> Fraction:
    """The fraction of a small denominator that a float64 stands for, so that equal differences of scores are equal."""
    near = Fraction(value).limit_denominator(10**4)
    return near if abs(near - Fraction(value)) < 1e-11 else Fraction(value)


Pair = tuple[Configuration, Configuration]  # one, and what it is compared with


def collect(places: Iterable[Path], metric: str) -> tuple[list[Run], list[LeftOut]]:
    """The finished runs at and below `places`, in the order given, and what had to be left out.

    Args:
        places: run directories, or folders that hold some at any depth.
        metric: the score that a run must have.

    Raises:
        UserError: nothing usable is left; says why of each.
    """
    found: list[Run] = []
    left_out: list[LeftOut] = []
    for directory in {path.resolve(): path for place in places for path in within(place)}.values():
        try:
            found.append(load(directory, metric))
        except UserError as error:
            left_out.append(LeftOut(directory, str(error)))
    shorten_roots(found)
    runs: list[Run] = []
    seen: dict[str, Path] = {}
    by_place = {run.directory: run for run in found}
    for run in found:
        first = seen.setdefault(f"{known(identity(run))} {run.seed}", run.directory)
        if first == run.directory:
            runs.append(run)
        else:
            images = {run.images, by_place[first].images} - {None}
            what = (
                "same settings on other images" if len(images) > 1 else "same configuration and seed, which counts once"
            )
            left_out.append(LeftOut(run.directory, f"repeats {first}: the {what}"))
    if not runs:
        reasons = "; ".join(f"{left.directory} {left.why}" for left in left_out)
        raise UserError(f"there is no finished run to report ({reasons or 'no directory was given'})")
    return runs, left_out


def shorten_roots(runs: Sequence[Run]) -> None:
    """Cut paths of data to their last part where a published run has kept only that part of the same path."""
    located = [run.settings for run in runs if run.settings["data.source"] in LOCATED and run.settings["data.root"]]
    short = {settings["data.root"] for settings in located if not Path(settings["data.root"]).is_absolute()}
    for settings in located:
        if (name := Path(settings["data.root"]).name) in short:
            settings["data.root"] = name


def within(place: Path) -> list[Path]:
    """The run directories at or below a place; the place itself if there are none, so that it is answered for.

    Hidden folders, those named in SKIPPED, what lies in a run, and links are not looked into.

    Raises:
        UserError: ENDLESS folders hold no run.
    """
    found = []
    print(f"looking for runs in {place}", file=sys.stderr)
    walk = tqdm(os.walk(place), unit=" folders", leave=False, disable=None)
    for number, (folder, folders, files) in enumerate(walk, 1):
        if "summary.json" in files or ".hydra" in folders:
            found.append(Path(folder))
            walk.set_postfix_str(f"{len(found)} runs")
            folders.clear()
        if number == ENDLESS and not found:
            raise UserError(
                f"{place}: no run in the first {number:,} folders; give the folder that holds the runs, "
                "such as outputs/runs"
            )
        folders[:] = sorted(name for name in folders if name not in SKIPPED and not name.startswith("."))
    return found or [place]


def load(directory: Path, metric: str) -> Run:
    """The run in a directory.

    Raises:
        UserError: it holds none, or one that has not ended well, or one that cannot be read; without its name.
    """
    path = directory / "summary.json"
    if not directory.exists():
        raise UserError("does not exist")
    if not path.exists():
        begun = (directory / ".hydra").exists()
        raise UserError("has no summary.json: its training has not begun" if begun else "holds no run")
    try:
        summary = read_json(path)
    except ValueError:
        raise UserError("has a summary.json that is damaged") from None
    if "state" not in summary:
        raise UserError("has a summary.json that no training here has written")
    if summary["state"] != "done":
        reason = f": {summary['reason']}" if "reason" in summary else ""
        raise UserError(f"is not done, its state is {summary['state']}{reason}")
    check_summary(summary)
    if limited := summary.get("limited"):
        raise UserError(f"is limited to {', '.join(f'{key}={n}' for key, n in limited.items())}, for a trial")
    scores = {key: value for key, value in summary["scores"].items() if value is not None}
    if not math.isfinite(scores.get(metric, math.nan)):
        raise UserError(f"has no {metric}; it has {', '.join(scores)}")
    settings = settings_of(directory)
    if lengthened := summary.get("lengthened"):  # its schedule is not that of a run that was as long from the beginning
        settings["lengthened"] = lengthened
    tables = table(directory, "metrics"), table(directory, "per_class")
    return Run(directory, settings, summary, *tables, images_of(directory, settings["data.fraction"]))


def images_of(directory: Path, fraction: float) -> tuple[int, str] | None:
    """`Run.images`; with a fraction of the images their number is 0, since it depends on the seed."""
    path = directory / "model.json"
    if not path.is_file():
        return None
    try:
        found = read_json(path).get("fingerprint")
        if found is None:
            return None
        counts = [found[part]["images"] for part in ("train", "val") if part in found]
        return sum(counts) if fraction == 1 else 0, found["test"]["sha256"]
    except (ValueError, KeyError, TypeError):
        raise UserError("has a model.json that is damaged") from None


def check_summary(summary: dict[str, Any]) -> None:
    """UserError if a finished run's summary lacks something, or if something in it is of another type."""
    missing = [key for key in NEEDED if key not in summary]
    if missing:
        raise UserError(f"has a summary.json without {', '.join(missing)}")
    wrong = [key for key, kind in NEEDED.items() if not is_a(summary[key], kind)]
    wrong += ["name"] if not is_a(summary.get("name"), (str, type(None))) else []
    if "scores" not in wrong and not all(is_a(value, (int, float, type(None))) for value in summary["scores"].values()):
        wrong.append("scores")
    counts = summary["images"]
    if "images" not in wrong and not (is_a(counts.get("train"), int) and all(is_a(n, int) for n in counts.values())):
        wrong.append("images")
    if "accelerator" not in wrong and "precision" not in summary["accelerator"]:
        wrong.append("accelerator")
    wrong += ["init_from"] if not is_a(summary.get("init_from"), (dict, type(None))) else []
    parts = summary.get("earlier", [])
    if not (is_a(parts, list) and all(is_a(part, dict) and {*PART} <= part.keys() for part in parts)):
        wrong.append("earlier")
    if wrong:
        raise UserError(f"has a summary.json whose {', '.join(wrong)} no training here has written")


def is_a(value: Any, kind: type | tuple[type, ...]) -> bool:
    """Whether a value of JSON is of a type; true and false are no numbers."""
    return isinstance(value, kind) and not isinstance(value, bool)


def settings_of(directory: Path) -> Settings:
    """The value of every dotted key of a run's configuration."""
    try:
        settings = flat(load_recorded_config(directory))
    except (ValueError, TypeError, AttributeError) as error:  # whatever is in it, the other runs are reported
        raise UserError(f"has a config.yaml that cannot be used ({error})") from None
    missing = [key for key in ("data.source", "data.image_size", "batch_size") if key not in settings]
    if missing:
        raise UserError(f"has a config.yaml without {', '.join(missing)}")
    return settings


def table(directory: Path, name: str) -> pd.DataFrame:
    """A CSV of a run; one that is not there is empty."""
    path = directory / f"{name}.csv"
    if not path.exists():
        return pd.DataFrame()
    try:
        # A class may be called nan.
        found = pd.read_csv(
            path, dtype=dict.fromkeys(TEXT, str), keep_default_na=name != "per_class", na_values={"top1": ["", "nan"]}
        )
    except (OSError, ValueError):
        raise UserError(f"has a {path.name} that is damaged") from None
    numbers = found.drop(columns=[key for key in TEXT if key in found])
    missing = [key for key in COLUMNS[name] if key not in found]
    if missing or not all(map(pd.api.types.is_numeric_dtype, numbers.dtypes)):
        raise UserError(f"has a {path.name} that no training here has written, or that is damaged")
    return found


def flat(tree: Any, prefix: str = "") -> Settings:
    """Nested dictionaries as one of dotted keys; the `_target_` of a part is the value of the part."""
    settings: Settings = {}
    for key, value in tree.items():
        name = prefix.rstrip(".") if key == "_target_" else f"{prefix}{key}"
        settings |= flat(value, f"{name}.") if isinstance(value, dict) else {name: plain(value)}
    return settings


def plain(value: Any) -> Any:
    """1 for 1.0: the same setting, however it was written."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def identity(run: Run) -> Settings:
    """What makes its configuration: all settings but those that say who ran it, how and where."""
    located = run.settings["data.source"] in LOCATED
    apart = [key for key in APART if not (located and key == "data.root")]
    part = {key: value for key, value in run.settings.items() if not below(key, apart)}
    batches = run.settings.get(ACCUMULATED, 1)  # of an optimizer step; alone of the trainer's, it says what is computed
    return part if batches == 1 else part | {ACCUMULATED: batches}


def known(settings: Settings) -> list[tuple[str, Any]]:
    """Settings to compare: one that is null is one that an older version did not have."""
    return sorted((key, value) for key, value in settings.items() if value is not None)


def arrange(runs: Sequence[Run]) -> list[Configuration]:
    """Group runs by configuration, in order of appearance, and name each."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(repr(known(identity(run))), []).append(run)
    labels = called([*groups.values()], [identity(group[0]) for group in groups.values()])
    return [Configuration(label, group) for label, group in zip(labels, groups.values(), strict=True)]


def called(groups: Sequence[Sequence[Run]], settings: Sequence[Settings]) -> list[str]:
    """A label for each group of runs: its name if that is unique, else a few settings in which those differ."""
    names = ["/".join(dict.fromkeys(run.summary.get("name") or "run" for run in group)) for group in groups]
    labels = list(names)
    for name in {name for name, count in Counter(names).items() if count > 1}:
        alike = [i for i, other in enumerate(names) if other == name]
        prefix = f"{name} " if len(set(names)) > 1 else ""
        for i, text in zip(alike, distinctions([settings[i] for i in alike]), strict=True):
            labels[i] = f"{prefix}{text}" if text else name
    return labels


def distinctions(settings: Sequence[Settings]) -> list[str]:
    """What sets each apart from the others, as "depth=4, stem.depth=2"; nothing of one that is the most usual in all.

    Settings that only some of them have, such as those of another kind of stem, are left to the name of that kind.
    Where one would take more than FEW, all have the same few that tell most of them apart, and a number if need be.
    """
    keys = differing(settings)
    shared = [key for key in keys if all(key in each for each in settings)]
    if len({repr([each[key] for key in shared]) for each in settings}) == len(settings):
        keys = shared
    short = shortened({key for each in settings for key in each})
    usual = {key: Counter(shown(each.get(key)) for each in settings).most_common(1)[0][0] for key in keys}
    few = len(keys) <= FEW
    told = [[key for key in keys if few or shown(each.get(key)) != usual[key]] for each in settings]
    if max(map(len, told)) > FEW:
        told = [fewest(settings, keys)] * len(settings)
    texts = [
        ", ".join(f"{short[key]}={shown(each.get(key))}" for key in its)
        for each, its in zip(settings, told, strict=True)
    ]
    numbered = [f"{text} ({texts[: i + 1].count(text)})".lstrip() for i, text in enumerate(texts)]
    return [new if texts.count(text) > 1 else text for text, new in zip(texts, numbered, strict=True)]


def fewest(settings: Sequence[Settings], keys: Sequence[str]) -> list[str]:
    """FEW keys at most, each the one that tells most apart of what those before it do not; the model's first."""
    ordered = sorted(keys, key=lambda key: not key.startswith("model"))
    chosen: list[str] = []

    def kinds(key: str) -> int:
        return len({tuple(shown(each.get(one)) for one in (*chosen, key)) for each in settings})

    while ordered and len(chosen) < FEW and (not chosen or kinds(chosen[-1]) < len(settings)):
        chosen.append(max(ordered, key=kinds))
    return chosen


def differing(settings: Sequence[Settings]) -> list[str]:
    """The keys whose values are not the same in all; a key that is not there is null."""
    keys = dict.fromkeys(key for each in settings for key in each)
    return [key for key in keys if len({repr(each.get(key)) for each in settings}) > 1]


def shortened(keys: Iterable[str]) -> dict[str, str]:
    """The last parts of each key that no shorter key has taken: model.depth -> depth, then stem.depth."""
    short: dict[str, str] = {}
    for key in sorted(keys, key=lambda key: (key.count("."), key)):
        parts = key.split(".")
        ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        short[key] = next(end for end in ends if end not in short.values())
    return short


def shown(value: Any) -> str:
    """A value as the page states it; a part by its own name."""
    if isinstance(value, str) and value.startswith("hybrid_vit."):
        return value.rpartition(".")[2]
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return f"{value:g}" if isinstance(value, float) else str(value)
