"""What a training says on the console, and what it leaves unsaid: its parts, protocol and result, what comes next."""

import logging
import shlex
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from lightning.pytorch.utilities.model_summary import ModelSummary

from hybrid_vit.config.schema import Data, Train
from hybrid_vit.data.module import DataModule
from hybrid_vit.training.task import Classification
from hybrid_vit.utils.paths import shown
from hybrid_vit.utils.tables import text_table

log = logging.getLogger(__name__)


def protocol(data: DataModule, score: str, limited: dict[str, int | float]) -> str:
    """How the reported score was computed, in words; that of a limited run is none to compare."""
    limits = ", ".join(f"{key}={limit}" for key, limit in limited.items())
    first = f"limited to {limits}, so no score to compare: " if limited else ""
    weights = "EMA" if score == "ema" else "raw"
    selection = f"{data.sizes['val']} validation images" if "val" in data.sizes else "no validation split"
    looked = ", test set looked at every epoch" if data.monitor_test else ""
    scored = f"test scored on the last {weights} weights{looked}"
    return f"{first}{data.sizes['train']} training images, {selection}; {scored}"


def announce(config: Train, data: DataModule, task: Classification, macs: int, length: str) -> None:
    """What is about to be trained: in a few lines, or all of it with `verbose`.

    Args:
        macs: multiply-accumulates of an image.
        length: of the training, in words.
    """
    if config.verbose:
        log.info("configuration\n%s", yaml.safe_dump(asdict(config), sort_keys=False))
        log.info("model\n%s", ModelSummary(task, max_depth=3))
    sizes = {name: sum(weight.numel() for weight in part.parameters()) for name, part in task.net.named_children()}
    optim, warmup = config.optim, task.schedule.warmup_epochs
    mixing = [part["_target_"].rpartition(".")[2] for part in config.augment.values() if isinstance(part, dict)]
    rows = [
        ("parts", ", ".join(f"{name} {size:,}" for name, size in sizes.items() if size)),
        ("optimizer", f"{optim.name}, lr {optim.lr:g}, {optim.schedule}, warm-up of {warmup:.3g} epochs"),
        ("batch size", str(data.batch_size)),
        ("label smoothing, EMA decay", f"{config.label_smoothing:g}, {config.ema.decay:g}"),
        ("augmentation", ", ".join(mixing) or "none"),
    ]
    parameters = sum(weight.numel() for weight in task.net.parameters())
    images = ", ".join(f"{count:,} {name}" for name, count in data.sizes.items())
    log.info(
        "%s: %s parameters, %s MACs; images: %s; %s\n%s",
        *(config.name, f"{parameters:,}", f"{macs:,}", images, length, text_table(("", ""), rows, indent="  ")),
    )


def show(summary: dict[str, Any], directory: Path, source: Data) -> None:
    """The result as a table, and what to do next."""
    directory = shown(directory)
    scores = summary["scores"]
    limits = ", ".join(f"{key}={limit}" for key, limit in summary.get("limited", {}).items())
    rows = [
        *([("limited to", f"{limits}; no score to compare")] if limits else []),
        *((name, f"{scores[name]:.2f} %") for name in scores if name.endswith(("top1", "top5", "crossed"))),
        *((name, f"{scores[name]:.2f} points") for name in scores if name.endswith("forgotten")),
        *((f"val_top1 of decay {decay}", f"{top1:.2f} %") for decay, top1 in summary.get("compared", {}).items()),
        ("parameters", f"{summary['parameters']:,}"),
        ("steps", f"{summary['steps']:,} ({summary['epochs']:.1f} epochs)"),
        ("training", f"{summary['seconds']:.0f} s, {summary['images_per_second']:.0f} images/s on {summary['device']}"),
        ("run", str(directory)),
        ("curve", str(directory / "learning_curve.png")),
    ]
    table = text_table(("", ""), rows, indent="  ")
    after = ["predict", f"model={directory}", "IMAGES"]
    if source.source == "digits":  # from the quickstart on to CIFAR-100
        after = ["train", "experiment=fast_4m", "budget=15m", "budget_by=clock"]
    commands = (
        shlex.join(["python", "-m", "hybrid_vit.evaluate", f"run={directory}"]),
        f"python -m hybrid_vit.{shlex.join(after)}",
        "python -m hybrid_vit.train --help",
    )
    log.info("done\n%s\n\nnext\n%s", table, "\n".join(f"  {command}" for command in commands))


def quieten() -> None:
    """Leave out what Lightning says of itself; what matters of it is said here."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "GPU available but not used",  # as it was asked for
        "Found .* module.* in eval mode",  # the average is never in training mode
        "`isinstance.treespec, LeafSpec.` is deprecated",  # Lightning 2.6 with torch 2.14
        "The '.*_dataloader' does not have many workers",
        "Be aware that when using `ckpt_path`, callbacks used",  # the clock of a run that is lengthened
        "It is recommended to use .*sync_dist",  # torchmetrics has summed over the processes already
    ):
        warnings.filterwarnings("ignore", message)
