"""The model card of a trained run: its description, its scores -> README.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from hybrid_vit.utils.durations import spoken
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import read_json
from hybrid_vit.utils.tables import markdown_table

TEMPLATE = """# {name}

An image classifier, {start}: {parameters:,} parameters, {macs:,.0f} million multiply-accumulates for an image of
{size} x {size} pixels, {classes} classes.

{figures}

{scope}

## Use

{use}

## Training

{command}

{recipe}
{curve}
## Data and limits

{images:,} training images of `{data}`. {protocol}.
The model knows its {classes} classes and nothing else: it answers with one of them for any image.
The shorter side of an image is resized to {size} pixels, and the centre is cropped.
{calibration}

## Licence

MIT, as the code. It does not cover images of the data set, those of the training and in pictures beside this card:
they have their own terms.
"""

ONE_RUN = "One run: the interval covers the sampling of test images, not the variation between seeds."
PARTS = {  # what the scores of data sets that were joined are, by the end of their names
    "top1": "top-1 on the test images of `{}`",
    "crossed": "test images of `{}` that are classified as a class of the other data set",
    "forgotten": "top-1 lost on `{}`, compared with the initial weights",
}


def check_scored(run: Path) -> None:
    """The card of a run can state a score.

    Raises:
        UserError: it is not done, used only some of its batches, or is an ensemble of runs.
    """
    summary = read_json(run / "summary.json")
    if "members" in summary:
        raise UserError(f"{run} is an ensemble, which has no model card; give one of {', '.join(summary['members'])}")
    if summary.get("state") != "done":
        raise UserError(f"{run} is {summary.get('state')}, not done; finish it with resume={run}")
    if summary.get("limited"):
        raise UserError(f"{run} used only some of its batches, so its score does not count; train it on all of them")


def score_row(top1: float, images: int) -> tuple[str, str, str]:
    """The row (what, value, n) of a score in per cent, with its interval over test images."""
    interval = stats.binomtest(round(top1 * images / 100), images).proportion_ci(0.95, method="wilson")
    low, high = 100 * interval.low, 100 * interval.high
    value = f"{top1:.2f} % ({low:.2f} to {high:.2f} %, 95 % Wilson interval)"
    return "test top-1 of these weights", value, f"{images:,} images"


def further_rows(scores: Mapping[str, float], images: int) -> list[tuple[str, str, str]]:
    """Rows (what, value, n) of top-5, the mean over classes, and each of the data sets that were joined."""
    rows = [("test top-5", f"{scores['test_top5']:.2f} %", f"{images:,} images")] if "test_top5" in scores else []
    for key, value in scores.items():
        split, _, score = key.partition("_")
        data, _, kind = score.rpartition("_")
        if split != "test" or not data or kind not in PARTS:
            continue
        what = "mean accuracy over classes" if data == "balanced" else PARTS[kind].format(data)
        n = f"{images:,} images" if data == "balanced" else "1 run"
        rows.append((what, f"{value:.2f} {'points' if kind == 'forgotten' else '%'}", n))
    return rows


def model_card(
    name: str,
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    classes: int,
    size: int,
    figures: Sequence[Sequence[str]],
    scope: str,
    calibration: str,
    use: str,
    command: str | None,
    curve: bool = True,
) -> str:
    """README.md of a trained run.

    Args:
        summary: of the run whose weights these are.
        config: of the same run.
        figures: rows of (what, value, n).
        scope: what the rows do and do not say.
        calibration: what the probabilities are worth.
        use: how it is loaded; what its files hold.
        command: that trained it, if known.
        curve: whether learning_curve.png lies beside it.
    """
    optim = {key: config["optim"].get(key) for key in ("lr", "adamw_lr", "weight_decay", "schedule")}
    optim = {key: f"{value:g}" if isinstance(value, float) else value for key, value in optim.items()}
    batch = f"{min(config['batch_size'], summary['images']['train'])}"
    if (accumulated := config.get("trainer", {}).get("accumulate_grad_batches", 1)) > 1:
        batch += f" ({accumulated} batches a step)"
    distill = config.get("distill", {})
    teacher = distill.get("teacher")
    apart = [
        what for what, given in (("the initial weights", summary.get("init_from")), ("the teacher", teacher)) if given
    ]
    source = f", without those of {' and '.join(apart)}" if apart else ""
    settings = [f"{key} {value}" for key, value in optim.items() if value is not None]
    recipe = [
        ("optimizer", ", ".join([config["optim"]["name"], *settings])),
        ("steps, batch size", f"{summary['steps']:,} ({summary['epochs']:.3g} epochs), {batch}"),
        ("label smoothing, EMA decay", f"{config['label_smoothing']:g}, {config['ema']['decay']:g}"),
        ("seed", str(summary["seed"])),
        ("training", f"{spoken(summary['seconds'])}, {summary['images_per_second']:.0f} images/s"),
        ("processor", f"{summary['device']}, {summary['threads']} threads, {summary['accelerator']['precision']}"),
        ("versions", ", ".join(f"{key} {value}" for key, value in summary["versions"].items())),
        ("commit, date", ", ".join(filter(None, (summary["commit"], summary["started"][:10])))),
    ]
    if teacher:
        how = f"{distill['kind']}, alpha {distill['alpha']:g}, temperature {distill['temperature']:g}"
        recipe.insert(3, ("distillation", f"from {Path(teacher).name}: {how}"))
    if "gmac_epochs" in summary:  # older runs do not say
        meaning = f"forward multiply-accumulates of an image, in 10⁹, times epochs{source}"
        recipe.insert(2, ("training compute", f"{summary['gmac_epochs']:.3g} ({meaning})"))
    return TEMPLATE.format(
        name=name,
        start=start(summary),
        parameters=summary["parameters"],
        macs=summary["macs"] / 1e6,
        size=size,
        classes=classes,
        figures=markdown_table(("", "value", "n"), figures),
        scope=scope,
        calibration=calibration,
        use=use,
        command=f"```\n{command}\n```" if command else "The whole configuration is in `config.yaml`.",
        curve="\n![Learning curve](learning_curve.png)\n" if curve else "",
        recipe=markdown_table(("", ""), recipe),
        images=summary["images"]["train"],
        data=config["data"]["source"],
        protocol=summary["protocol"][0].upper() + summary["protocol"][1:],
    )


def start(summary: Mapping[str, Any]) -> str:
    """With which weights its training began."""
    if source := summary.get("init_from"):
        return f"trained from the weights of {Path(source['run']).name} (`transfer={summary['transfer']}`)"
    return "trained from weights of ImageNet" if summary.get("pretrained") else "trained from scratch"
