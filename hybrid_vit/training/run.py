"""Training: a plain configuration and a run directory -> a trained, scored and summarised run in it.

Order of events: look at the machine, load the data, build the model, fix the number of steps, fit, score once.
"""

import logging
import math
import shlex
import statistics
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import nn
from torchvision.utils import save_image
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from hybrid_vit.augment import Augment
from hybrid_vit.config.build import build, untrained
from hybrid_vit.data.module import DataModule, changes
from hybrid_vit.deploy.trained import adopt, load, read_description
from hybrid_vit.deploy.weights import another_model, save_weights
from hybrid_vit.evaluation import count_macs, per_class, score
from hybrid_vit.evaluation.plots import confusion_matrix, learning_curve
from hybrid_vit.fast.accelerator import Choice, choose, keep_memory
from hybrid_vit.training.budget import affordable, measure
from hybrid_vit.training.callbacks import Bar, CheckpointFiles, EpochTable, Keeper, Stopped
from hybrid_vit.training.distill import Distillation
from hybrid_vit.training.distributed import synchronised
from hybrid_vit.training.ema import EMA
from hybrid_vit.training.loggers import Wandb
from hybrid_vit.training.optim import OPTIMIZERS, Schedule
from hybrid_vit.training.task import Classification
from hybrid_vit.utils.durations import seconds
from hybrid_vit.utils.files import read_json, write_csv, write_json
from hybrid_vit.utils.limits import WARMUP_EPOCHS, check_teacher, warmup
from hybrid_vit.utils.provenance import peak_memory_mib, provenance

log = logging.getLogger(__name__)


def train(
    spec: dict[str, Any], directory: Path, *, checkpoint: Path | None = None, callbacks: Sequence[pl.Callback] = ()
) -> float:
    """Train, score and summarise the run that `spec` describes.

    Args:
        spec: its plain configuration.
        directory: where it lies; nothing is written there before training can begin.
        checkpoint: one of its own, to continue from.
        callbacks: further ones for Lightning's trainer.

    Returns:
        What a sweep compares: validation top-1 in per cent, or test top-1 where there is no validation split.

    Raises:
        Stopped: stopped before its end, on purpose; the run can be resumed.
        ValueError: something that the user can mend, in one sentence.
    """
    began = time.monotonic()
    quieten()
    keep_memory()
    choice = choose(**spec["accelerator"])
    log.info("%s, %s precision: %s", choice.accelerator, choice.precision, choice.reason)
    data = make_data(spec)
    fingerprint = data.fingerprint()
    if checkpoint:
        check_same_data(directory, fingerprint)
    spec["model"]["num_classes"] = data.num_classes
    fresh = untrained(spec["model"])
    torch.manual_seed(spec["seed"])
    net = build(fresh if checkpoint else spec["model"])  # a checkpoint holds the weights already
    if spec["init_from"] and not checkpoint:
        adopt(net, spec["init_from"])
        log.info("weights of %s, but for the classifier", spec["init_from"])
    several = processes(spec) > 1
    if several:
        synchronised(net, cuda=choice.accelerator == "gpu")
    size = {
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "macs": count_macs(net, data.image_size),
    }
    choice.tune(net)
    before = read_json(directory / "summary.json", "start a new run without resume") if checkpoint else {}
    distill = make_teacher(spec, choice, data)
    steps = before["steps"] if checkpoint else fix_steps(spec, choice, net, data, distill, began)
    task = make_task(spec, net, data, steps, distill)
    if task.schedule.warmup_epochs < WARMUP_EPOCHS and spec["optim"]["warmup_epochs"] is None:
        log.info(
            "warm-up of %d epochs shortened to %.3g, a tenth of %.3g (optim.warmup_epochs sets another)",
            *(WARMUP_EPOCHS, task.schedule.warmup_epochs, task.schedule.epochs),
        )
    compile_nets(task, choice)
    table = EpochTable(directory / "metrics.csv")
    if several and rank_zero_only.rank:  # type: ignore[attr-defined]  # the first process reports
        fit(spec, choice, task, data, steps, directory, table, None, callbacks, checkpoint)
        return math.nan

    summary = {
        "name": spec["name"],
        "state": "running",
        "seed": spec["seed"],
        "steps": steps,
        "epochs": steps / data.steps_per_epoch,
        "budget": spec["budget"],
        **size,
        "images": data.sizes,
        "pretrained": bool(spec["model"].get("pretrained") or spec["init_from"]),
        "protocol": protocol(data, spec["score"]),
        "device": choice.device_name,
        "accelerator": asdict(choice),
        "threads": torch.get_num_threads(),
        **provenance(),
        "started": before.get("started") or datetime.now(UTC).isoformat(timespec="seconds"),
    }
    description = {
        "model": fresh,
        "class_names": data.class_names,
        "image_size": data.image_size,
        "mean": data.mean,
        "std": data.std,
        "data": spec["data"],
        "fingerprint": fingerprint,
        "seed": spec["seed"],
    }
    write_json(directory / "model.json", description)
    logger = make_logger(spec, directory, summary, before.get("wandb"))
    if logger:
        summary["wandb"] = logger.version or before.get("wandb")
    write_json(directory / "summary.json", summary)
    try:
        picture_batch(data, directory / "augmented.png")
        if logger and not checkpoint:
            logger.log_picture("augmented", directory / "augmented.png")
        trainer = fit(spec, choice, task, data, steps, directory, table, logger, callbacks, checkpoint)
        results = finish(trainer, choice, task, data, table, directory, logger)
        summary |= results | {"state": "done", "finished": datetime.now(UTC).isoformat(timespec="seconds")}
        write_json(directory / "summary.json", summary)
    except BaseException as error:
        summary |= {"state": "stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "failed"}
        summary |= {"reason": " ".join(str(error).split()) or type(error).__name__, "seconds": table.seconds}
        with suppress(OSError):  # a full disk is told already, and by the error that matters
            write_json(directory / "summary.json", summary)
        raise
    finally:
        if logger:
            logger.finish(summary)
    show(summary, directory, spec["data"])
    scores = summary["scores"]
    return scores.get("val_top1", scores["test_top1"])


def make_data(spec: dict[str, Any]) -> DataModule:
    """The data module, loaded and split."""
    augment = Augment(**build(spec["augment"]))
    data = DataModule(
        **spec["data"],
        batch_size=spec["batch_size"],
        augment=augment,
        seed=spec["seed"],
        world_size=processes(spec),
    )
    data.prepare_data()
    data.setup()
    return data


def check_same_data(directory: Path, fingerprint: dict[str, Any]) -> None:
    """A run continues on the data that it began with: its splits, its shuffles and its classes are those of that data.

    Raises:
        ValueError: the data has changed; says how.
    """
    before = read_description(directory).get("fingerprint")
    if before and (found := changes(before, fingerprint)):
        raise ValueError(
            f"the data has changed since {directory} began: {', '.join(found)}; "
            "bring that data back, or start a new run without resume"
        )


def make_teacher(spec: dict[str, Any], choice: Choice, data: DataModule) -> Distillation | None:
    """What the run that `distill.teacher` names teaches, if it names one and that knows the same images and classes."""
    settings = dict(spec["distill"])
    run = settings.pop("teacher")
    check_teacher(spec["model"].get("pool"), run)
    if run is None:
        return None
    trained = load(run)
    knows = [(part.class_names, part.image_size, part.normalize.mean, part.normalize.std) for part in (trained, data)]
    if knows[0] != knows[1]:
        raise ValueError(
            f"distill.teacher={run} was trained on other classes, image size, mean or std; "
            "train a teacher on this data first, e.g. with model=resnet18"
        )
    if trained.fingerprint and trained.fingerprint["test"] != data.fingerprint()["test"]:
        raise ValueError(
            f"distill.teacher={run} was trained with another test set, so it may have learned from the test images of "
            "this run; train a teacher on this data first"
        )
    choice.tune(trained.net)
    return Distillation(trained.net, **settings)


def make_task(
    spec: dict[str, Any], net: nn.Module, data: DataModule, steps: int, distill: Distillation | None = None
) -> Classification:
    """The task for a training of `steps` steps."""
    optim = dict(spec["optim"])
    name, clip_norm = optim.pop("name"), optim.pop("clip_norm")
    if name not in OPTIMIZERS:
        raise ValueError(f"optim.name {name!r} is unknown; use one of {', '.join(OPTIMIZERS)}")
    shape = {key: optim.pop(key) for key in ("interval", "warmup_epochs", "min_lr")}
    epochs = steps / data.steps_per_epoch
    shape["warmup_epochs"] = warmup(shape["warmup_epochs"], epochs)
    return Classification(
        net=net,
        optimizer=lambda net: OPTIMIZERS[name](net, **optim),
        schedule=Schedule(lr=optim["lr"], epochs=epochs, **shape),
        steps_per_epoch=data.steps_per_epoch,
        ema=EMA(net, **spec["ema"]) if spec["ema"]["decay"] else None,
        distill=distill,
        score=spec["score"],
        label_smoothing=spec["label_smoothing"],
        clip_norm=clip_norm,
        eval_names=data.val_names,
        seed=spec["seed"],
    )


def compile_nets(task: Classification, choice: Choice) -> None:
    """Compile the network and its average in place, so that the keys of their weights stay."""
    if choice.compile:
        task.net.compile(dynamic=False)
        if task.ema is not None:
            task.ema.net.compile(dynamic=False)


def fix_steps(
    spec: dict[str, Any], choice: Choice, net: nn.Module, data: DataModule, distill: Distillation | None, began: float
) -> int:
    """How many optimizer steps the run has: `steps`, or as many as fit into `budget`, or `epochs` of them."""
    steps = spec["steps"] or spec["epochs"] * data.steps_per_epoch
    if spec["budget"] is None:
        return steps
    if processes(spec) > 1:
        raise ValueError("budget is measured in one process; with several give epochs or steps instead")
    task = make_task(spec, deepcopy(net), data, steps, distill)
    compile_nets(task, choice)
    cost = measure(task, data, choice, 0.02 * seconds(spec["budget"]))
    steps = affordable(cost, data, seconds(spec["budget"]) - (time.monotonic() - began))
    log.info(
        "budget %s: %.3f s a step, so %d steps (%.2f epochs); steps=%d instead of the budget repeats this run exactly",
        *(spec["budget"], cost.step, steps, steps / data.steps_per_epoch, steps),
    )
    return steps


def fit(
    spec: dict[str, Any],
    choice: Choice,
    task: Classification,
    data: DataModule,
    steps: int,
    directory: Path,
    table: EpochTable,
    logger: Wandb | None,
    callbacks: Sequence[pl.Callback],
    checkpoint: Path | None,
) -> pl.Trainer:
    """Run Lightning's loop to the last step, from the beginning or from a checkpoint.

    Raises:
        Stopped: it did not get there, because of a signal or `trainer.max_time`.
    """
    limits = dict(spec["trainer"])
    max_time = limits.pop("max_time")
    limits["log_every_n_steps"] = min(limits["log_every_n_steps"], data.steps_per_epoch)
    keeper = Keeper(
        directory / "checkpoints",
        steps=steps,
        every_minutes=spec["checkpoint_minutes"],
        max_seconds=seconds(max_time) if max_time else None,
    )
    trainer = pl.Trainer(
        accelerator=choice.accelerator,
        precision=choice.precision,  # type: ignore[arg-type]
        max_epochs=math.ceil(steps / data.steps_per_epoch),
        callbacks=[table, keeper, Bar(steps), *callbacks],
        plugins=[CheckpointFiles()],
        default_root_dir=directory,
        limit_val_batches=1.0 if data.val_names else 0,
        use_distributed_sampler=False,
        logger=logger or False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **limits,
    )
    with logging_redirect_tqdm():
        try:
            trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except RuntimeError as error:
            if checkpoint and "loading state_dict" in str(error):
                raise another_model(checkpoint, error) from None
            raise
    if trainer.global_step < steps:
        raise RuntimeError(f"training ended after {trainer.global_step} of {steps} steps, and nothing asked it to")
    return trainer


def finish(
    trainer: pl.Trainer,
    choice: Choice,
    task: Classification,
    data: DataModule,
    table: EpochTable,
    directory: Path,
    logger: Wandb | None,
) -> dict[str, Any]:
    """Write the last weights and score them, once, on the whole test set in this process alone; draw pictures.

    Raises:
        ValueError: their loss is not finite.
    """
    device = trainer.strategy.root_device
    net = task.scored.to(device)
    save_weights(directory, net)  # first: what is trained must not be lost to a picture that cannot be read
    values, confusion = score(
        net,
        tqdm(data.test_dataloader(), "test images", unit="batch", leave=False, disable=None),
        normalize=data.normalize,
        num_classes=data.num_classes,
        device=device,
        bf16=choice.bf16,
    )
    images = {**data.sizes, "test": values.pop("images")}
    scores = {key: value for key, value in table.rows[-1].items() if key.startswith("val_")}
    tested = {f"test_{key}": value for key, value in values.items()}
    learning_curve(table.rows, directory / "learning_curve.png", title=directory.name)
    confusion_matrix(confusion, data.class_names, directory / "confusion.png", title=f"{directory.name}: test set")
    write_csv(directory / "per_class.csv", per_class(confusion, data.class_names))
    if logger:
        ended = {key: int(table.rows[-1][key]) for key in ("epoch", "step")}
        logger.log_results(tested, confusion, data.class_names, **ended)
    return {
        "images": images,
        "scores": scores | tested,
        "seconds": table.seconds,
        "images_per_second": statistics.median(row["images_per_second"] for row in table.rows),
        "peak_memory_mib": peak_memory_mib(device),
    }


def processes(spec: dict[str, Any]) -> int:
    """How many processes train together."""
    return spec["trainer"]["devices"] * spec["trainer"]["num_nodes"]


def make_logger(spec: dict[str, Any], directory: Path, summary: dict[str, Any], run_id: str | None) -> Wandb | None:
    """The logger that `logger=` names; with `run_id` it continues that run."""
    settings = dict(spec["logger"])
    name = settings.pop("name")
    if name not in ("wandb", "none"):
        raise ValueError(f"logger.name {name!r} is unknown; use wandb or none")
    if name == "none":
        return None
    facts = {key: value for key, value in summary.items() if key != "state"}
    return Wandb(directory, config=spec | facts, run_id=run_id, **settings)


def picture_batch(data: DataModule, path: Path) -> None:
    """A picture of the first augmented images, as the model will see them."""
    images = data.augmented_batch(min(64, data.batch_size))
    save_image(data.denormalize(images).float() / 255, path, nrow=16)


def protocol(data: DataModule, scored: str) -> str:
    """How the reported score came about, in words."""
    weights = "EMA" if scored == "ema" else "raw"
    selection = f"{data.sizes['val']} validation images" if "val" in data.sizes else "no validation split"
    looked = ", test set looked at every epoch" if data.monitor_test else ""
    return f"{data.sizes['train']} training images, {selection}; test scored on the last {weights} weights{looked}"


def show(summary: dict[str, Any], directory: Path, source: dict[str, Any]) -> None:
    """The result as a table, and what to do next."""
    if directory.is_relative_to(Path.cwd()):
        directory = directory.relative_to(Path.cwd())
    scores = summary["scores"]
    rows = [
        *((name, f"{scores[name]:.2f} %") for name in scores if name.endswith(("top1", "top5"))),
        ("parameters", f"{summary['parameters']:,}"),
        ("steps", f"{summary['steps']:,} ({summary['epochs']:.1f} epochs)"),
        ("training", f"{summary['seconds']:.0f} s, {summary['images_per_second']:.0f} images/s on {summary['device']}"),
        ("run", str(directory)),
        ("curve", str(directory / "learning_curve.png")),
    ]
    width = max(len(name) for name, _ in rows) + 2
    table = "\n".join(f"  {name:<{width}}{value}" for name, value in rows)
    same = ["data=folder", f"data.root={source['root']}"] if source["source"] == "folder" else []
    if source["source"] in ("cifar10", "cifar100"):
        same = [f"data={source['source']}"]
    commands = (
        f"python -m hybrid_vit.evaluate run={directory}",
        shlex.join(["python", "-m", "hybrid_vit.train", *same, "model=hybrid_192", "budget=30m"]),
        "python -m hybrid_vit.train --help",
    )
    log.info("done\n%s\n\nnext\n%s", table, "\n".join(f"  {command}" for command in commands))


def quieten() -> None:
    """Leave out what Lightning says of itself; what matters of it is said here."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "Found .* module.* in eval mode",  # the average is never in training mode
        "`isinstance.treespec, LeafSpec.` is deprecated",  # Lightning 2.6 with torch 2.14
        "The '.*_dataloader' does not have many workers",
        "It is recommended to use .*sync_dist",  # torchmetrics has summed over the processes already
    ):
        warnings.filterwarnings("ignore", message)
