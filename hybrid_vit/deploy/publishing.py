"""Publishing: trained runs of one configuration -> weights, description, scores and a model card in one folder."""

import csv
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]
from torch import Tensor

from hybrid_vit.deploy.card import ONE_RUN, further_rows, model_card, score_row
from hybrid_vit.deploy.measured import EXAMPLES, FAMILIARITY, checksum
from hybrid_vit.deploy.measuring import first_of_each_class, write_examples, write_familiarity
from hybrid_vit.deploy.scoring import load_data, logits_of_part, score_test_set
from hybrid_vit.deploy.trained import load
from hybrid_vit.deploy.weights import halved, write_weights
from hybrid_vit.evaluation.calibration import ENOUGH, fit_temperature
from hybrid_vit.evaluation.metrics import Calibration
from hybrid_vit.evaluation.plots import confusion_matrix, learning_curve
from hybrid_vit.evaluation.scoring import forgotten, per_class
from hybrid_vit.evaluation.statistics import estimate
from hybrid_vit.fast.accelerator import choose, keep_memory
from hybrid_vit.utils.files import read_json, write_csv, write_json, write_text

USE = """```python
import hybrid_vit

model = hybrid_vit.load("{name}")
print(model.predict("image.png").label)
```

The weights are in `model.safetensors` ({weights}), the preprocessing and the class names in `model.json`.
`python -m hybrid_vit.evaluate run={name} accelerator.precision={precision}` scores them again."""

RUN = ("seed", "steps", "epochs", "seconds", "device", "commit", "started")  # of a summary, beside its scores


@dataclass(frozen=True)
class Published:
    """What was written, and how the test set scores it.

    Attributes:
        precision: in which it was scored; another one may change single answers.
        half: whether the weights are in half precision.
        top1, full_top1: per cent, of the weights that were written and of those of the run.
        images: of the test set.
        calibration: what its probabilities are worth, in a sentence.
    """

    precision: str
    half: bool
    top1: float
    full_top1: float
    images: int
    calibration: str


def publish_weights(
    run: Path, directory: Path, data: dict[str, Any], accelerator: dict[str, Any], *, cost: float
) -> Published:
    """Write the weights, the description, the scores and the confusion matrix of a run into `directory`.

    Args:
        data, accelerator: settings that replace the run's own.
        cost: points of test top-1 that half precision may cost; else the weights keep theirs.
    """
    keep_memory()
    choice = choose(**accelerator)
    trained = load(run)
    full = {key: value.clone() for key, value in trained.net.state_dict().items()}
    choice.tune(trained)
    images = load_data(trained, data, same=True)
    scored = {}
    versions = {False: full, True: halved(full)}
    if not all(value.isfinite().all() for value in versions[True].values()):
        del versions[True]  # a number is too large for half precision
    for half, weights in versions.items():
        trained.net.load_state_dict(weights)
        scored[half] = score_test_set(trained.net, images, choice)
    top1 = {half: values["top1"] for half, (values, _) in scored.items()}
    # Both are sums of hits: their difference is rounded, not exact.
    half = True in top1 and round(top1[False] - top1[True], 6) <= cost
    values, confusion = scored[half]
    kept = versions[half]
    write_weights(directory, kept)
    description = read_json(run / "model.json")
    trained.net.load_state_dict(kept)
    known = description.get("temperature")
    logits, labels = logits_of_part(trained.net, images, choice, "test")
    temperature, calibration = calibrate(logits, labels, known)
    write_familiarity(logits, images.source, checksum(directory), directory / FAMILIARITY)
    examples = first_of_each_class((batch[:2] for batch in images.test_dataloader()), images.num_classes)
    images.teardown("test")
    write_examples(examples, images.num_classes, directory / EXAMPLES)
    description["temperature"] = temperature
    write_json(directory / "model.json", portable(description))
    summary = read_json(run / "summary.json")
    number = int(values.pop("images"))
    tested = {f"test_{key}": value for key, value in values.items()}
    tested |= forgotten(summary.get("init_from"), tested)
    write_json(directory / "summary.json", portable(summary) | {"scores": summary["scores"] | tested})
    with (run / "metrics.csv").open() as file:
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    learning_curve(rows, directory / "learning_curve.png", title=directory.name, epochs=summary["epochs"])
    confusion_matrix(confusion, trained.class_names, directory / "confusion.png", title=f"{directory.name}: test set")
    write_csv(directory / "per_class.csv", per_class(confusion, trained.class_names))
    return Published(choice.precision, half, top1[half], top1[False], number, calibration)


def calibrate(logits: Tensor, labels: Tensor, known: float | None) -> tuple[float, str]:
    """The temperature, and the calibration error without and with it, in a sentence.

    Args:
        logits, labels: (N, C) and (N,) of the test set.
        known: the temperature, if it was fitted on validation images. Else it is fitted on the test images, and the
            error of each half of them is that with the temperature of the other half.
    """
    halves = [slice(0, None, 2), slice(1, None, 2)]
    scaled = torch.empty_like(logits)
    few = len(labels) < 2 * ENOUGH
    for half, other in (halves, halves[::-1]):
        scaled[half] = logits[half] / (known or (1.0 if few else fit_temperature(logits[other], labels[other])))
    errors = []
    for each in (logits, scaled):
        calibration = Calibration(logits.shape[1])
        calibration.update(each, labels)
        errors.append(calibration.compute()["ece"])
    temperature = known or (1.0 if few else fit_temperature(logits, labels))
    fitted = "It was fitted on the test images; the error with it is cross-validated over two halves of them."
    if few:
        fitted = "The test images are too few to fit one."
    return temperature, (
        f"Expected calibration error on the test set, 15 bins: {errors[0]:.1f} % without and {errors[1]:.1f} % with a "
        f"temperature of {temperature:.2f}, by which `predict` divides the logits. "
        + ("It was fitted on the validation images." if known else fitted)
    )


def write_card(name: str, runs: Sequence[Path], directory: Path, published: Published, config: dict[str, Any]) -> None:
    """Write README.md, config.yaml and runs.csv: what the weights of the first run score, and all runs together."""
    summary, description = read_json(directory / "summary.json"), read_json(directory / "model.json")
    summaries = [read_json(run / "summary.json") for run in runs]
    scores = [each["scores"]["test_top1"] for each in summaries]
    rows = [score_row(published.top1, published.images), *further_rows(summary["scores"], published.images)]
    scope = ONE_RUN
    if len(runs) > 1:
        found = estimate(scores)
        low, high = max(0.0, found.span[0]), min(100.0, found.span[1])  # a t-interval knows no limits
        kind = "95 % t-interval" if len(runs) > 2 else "both runs"
        equal = math.isnan(found.span[0]) or found.lowest == found.highest
        extent = "all equal" if equal else f"{low:.2f} to {high:.2f} %, {kind}"
        rows.append(("mean over seeds", f"{found.mean:.2f} % ({extent})", f"{len(runs)} runs"))
        listed = ", ".join(f"{score:.2f}" for score in scores)
        scope = f"The weights are those of the first run given to `publish`, whatever its score; all scores: {listed}."
    weights = f"half precision; the run's own weights score {published.full_top1:.2f} %"
    card = model_card(
        name,
        summary,
        config,
        classes=len(description["class_names"]),
        size=description["image_size"],
        figures=rows,
        scope=scope,
        calibration=published.calibration,
        use=USE.format(
            name=name, weights=weights if published.half else "single precision", precision=published.precision
        ),
        command=command_of(runs[0]),
    )
    write_text(directory / "README.md", card)
    write_csv(directory / "runs.csv", [{key: each.get(key) for key in RUN} | each["scores"] for each in summaries])
    write_text(directory / "config.yaml", yaml.safe_dump(portable(config), sort_keys=False))


def command_of(run: Path) -> str | None:
    """The command line that a run was started with, if it is known and made the whole run and no other."""
    path = run / ".hydra" / "overrides.yaml"
    if not path.is_file() or read_json(run / "summary.json").get("lengthened"):
        return None
    given = [text.partition("=") for text in yaml.safe_load(path.read_text(encoding="utf-8"))]
    if any(key == "sweep" for key, _, _ in given):
        return None
    settings = (f"{key}{sign}{portable(unquoted(value))}" for key, sign, value in given)
    return shlex.join(["python", "-m", "hybrid_vit.train", *settings])


def unquoted(value: str) -> str:
    """A path without the quotes that Hydra's grammar may need."""
    inside = value.strip("'")
    return inside if Path(inside).is_absolute() else value


def portable(content: Any) -> Any:
    """Nested dictionaries and lists with the last names of absolute paths: where they lay says nothing elsewhere.

    Names of classes stay as they are.
    """
    if isinstance(content, dict):
        return {key: value if key == "class_names" else portable(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [portable(value) for value in content]
    return Path(content).name if isinstance(content, str) and Path(content).is_absolute() else content
