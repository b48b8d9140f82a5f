"""The parts of a training, made from its configuration: data, network, teacher, task, number of steps."""

import logging
import time
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from hybrid_vit.augment import Augment
from hybrid_vit.config import schema
from hybrid_vit.config.build import build, untrained
from hybrid_vit.config.schema import OPTIMIZER_ARGUMENTS, Optim, Train
from hybrid_vit.data.module import DataModule, changes_of_test_set
from hybrid_vit.data.sources import JOINED
from hybrid_vit.deploy.trained import adopt, load, origin, read_description, splits
from hybrid_vit.evaluation.scoring import count_macs
from hybrid_vit.fast.accelerator import Choice
from hybrid_vit.models import WhiteningConv
from hybrid_vit.training.budget import CLOCK_MARGIN, MARGIN, Clock, Cost, affordable, measure
from hybrid_vit.training.distill import Distillation
from hybrid_vit.training.distributed import synchronised
from hybrid_vit.training.ema import EMA
from hybrid_vit.training.length import Epoch
from hybrid_vit.training.local_loggers import Csv, TensorBoard
from hybrid_vit.training.optim import OPTIMIZERS, Schedule
from hybrid_vit.training.progressive import Progressive
from hybrid_vit.training.task import Classification
from hybrid_vit.training.transfer import decay_rates, freeze
from hybrid_vit.training.wandb_logger import Wandb
from hybrid_vit.utils.durations import seconds
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import read_json
from hybrid_vit.utils.limits import warmup
from hybrid_vit.utils.paths import find_run, images_place

log = logging.getLogger(__name__)

FEW = 20  # training images of a class; with fewer, chance decides much of its accuracy
FROZEN = ("linear", "partial")  # kinds of transfer in which a part of the network does not learn
ROUGHLY = 20  # seconds that a step is measured for where the clock ends the training
WHITENED = 5000  # images of 32 x 32 from which a whitening convolution gets its kernels; fewer, if they are larger
FEWEST = 200


def make_data(config: Train) -> DataModule:
    """The data module, loaded and split."""
    data = DataModule(
        **vars(config.data),
        batch_size=config.batch_size,
        augment=Augment(**build(config.augment)),
        seed=config.seed,
        world_size=processes(config),
    )
    data.setup()
    few = [f"{name} ({size})" for name, size in data.class_sizes.items() if size < FEW]
    if few:
        log.warning(
            "%d of %d classes have fewer than %d training images: %s%s; more images%s will help",
            *(len(few), data.num_classes, FEW, ", ".join(few[:5]), ", ..." if few[5:] else ""),
            "" if config.init_from else ", or init_from=RUN,",
        )
    return data


def make_net(config: Train, data: DataModule, choice: Choice, *, fresh: bool) -> nn.Module:
    """The network of `config.model` for the classes of `data`; its weights are drawn from the seed.

    Args:
        fresh: it will be trained from its beginning; a network that continues gets its weights from a checkpoint.
    """
    model = model_spec(config, data)
    torch.manual_seed(config.seed)
    net = build(model if fresh else untrained(model))
    source = None if config.transfer == "scratch" else config.init_from
    for module in net.modules():
        if isinstance(module, WhiteningConv) and fresh and not source:
            module.whiten(data.training_images(max(FEWEST, WHITENED * 32**2 // data.image_size**2)))
    if source and fresh:
        known = adopt(net, source, data.class_names)
        log.info("weights of %s, which knows %d of the %d classes", source, known, data.num_classes)
        described = read_description(find_run(source))
        warn_of_validation(source, config, data)
        # Of resized images the fingerprint is another one.
        alike = data.source == "folder" or described["image_size"] == data.image_size
        found = changes_of_test_set(described.get("fingerprint"), data.fingerprint())
        if alike and described["class_names"] == data.class_names and found:
            log.warning(
                "%s was trained on the same classes with another test set (%s): if both use the same images, "
                "it may have learned from the test images of this run",
                *(source, ", ".join(found)),
            )
    if config.transfer in FROZEN:
        freeze(net, config.unfreeze or 0)
    if processes(config) > 1:
        synchronised(net, cuda=choice.accelerator == "gpu")
    return net


def may_know_validation(run: str, config: Train, data: DataModule) -> bool:
    """Whether `run`, or a run that it began with, may have been trained on the validation images of this training."""
    directory = find_run(run)
    trained = read_description(directory)
    before = read_json(directory / "summary.json").get("init_from")
    if "val" not in data.sizes:
        return False
    split = [config.seed, config.data.val_size]
    same = trained["data"]["source"] == config.data.source and share_images(trained["data"], config)
    own = None if "splits" in trained else trained.get("fingerprint", {}).get("val")  # an ensemble's is of one member
    if same and (all(other == split for other in splits(trained)) or (own and own == data.fingerprint()["val"])):
        return before is not None and before.get("may_know_validation", True)
    seen = [trained["data"]]
    while before:
        seen.append({"source": before.get("data"), "root": before.get("root")})
        before = before.get("init_from")
    return any(share_images(each, config) for each in seen)


def share_images(seen: dict[str, Any], config: Train) -> bool:
    """Whether a run with the data settings `seen` may have had images that this training has."""
    parts = [set(JOINED.get(source, (source,))) for source in (seen["source"], config.data.source)]
    same_place = images_place(seen["source"], seen["root"]) == images_place(config.data.source, config.data.root)
    return not parts[0].isdisjoint(parts[1]) and same_place


def warn_of_validation(run: str, config: Train, data: DataModule) -> None:
    """Warn if `run` may know the validation images."""
    if may_know_validation(run, config, data):
        log.warning(
            "%s was trained on the same data set, perhaps on the %d validation images: choose nothing by their score",
            *(run, data.sizes["val"]),
        )


def model_spec(config: Train, data: DataModule) -> dict[str, Any]:
    """What `config.model` says, for the classes of `data`."""
    rates = [key for key in config.model if key.endswith(("drop_rate", "path_rate"))]
    return config.model | {"num_classes": data.num_classes} | ({} if config.dropout else dict.fromkeys(rates, 0.0))


def make_teacher(config: Train, choice: Choice, data: DataModule) -> Distillation | None:
    """What the run that `distill.teacher` names teaches, if it names one and that knows the same images and classes.

    Raises:
        UserError: it was trained on other classes or images.
    """
    settings = asdict(config.distill)
    run = settings.pop("teacher")
    if run is None:
        return None
    trained = load(run)
    knows = [(part.class_names, part.image_size, part.normalize.mean, part.normalize.std) for part in (trained, data)]
    if knows[0] != knows[1]:
        raise UserError(
            f"distill.teacher={run} was trained on other classes, image size, mean or std; "
            "train a teacher on this data first, e.g. with model=resnet18"
        )
    if changes_of_test_set(trained.fingerprint, data.fingerprint()):
        raise UserError(
            f"distill.teacher={run} was trained with another test set, so it may have learned from the test images of "
            "this run; train a teacher on this data first"
        )
    warn_of_validation(run, config, data)
    choice.tune(trained.net)
    return Distillation(trained.net, **settings)


def make_task(
    config: Train,
    net: nn.Module,
    data: DataModule,
    steps: int,
    distill: Distillation | None = None,
    clock: Clock | None = None,
) -> Classification:
    """The task for a training of `steps` steps, or for one as long as the clock allows, of about so many."""
    optim = config.optim
    per_epoch = Epoch(config.trainer, data).steps
    epochs = steps / per_epoch
    return Classification(
        net=net,
        optimizer=lambda net: make_optimizer(net, optim),
        schedule=Schedule(
            lr=optim.lr,
            epochs=epochs,
            warmup_epochs=warmup(optim.warmup_epochs, epochs, optim.warmup_share),
            min_lr=optim.min_lr,
            shape=optim.schedule,
            interval=optim.interval,  # type: ignore[arg-type]
        ),
        steps_per_epoch=per_epoch,
        accumulated=config.trainer.accumulate_grad_batches,
        progress=(lambda: clock.progress) if clock else None,
        progressive=Progressive(**vars(config.progressive)),
        ema=EMA(net, decay=config.ema.decay, warmup=config.ema.warmup) if config.ema.decay else None,
        compared=[EMA(net, decay=decay, warmup=config.ema.warmup) for decay in config.ema.compared],
        distill=distill,
        score=config.score,
        label_smoothing=config.label_smoothing,
        clip_norm=optim.clip_norm,
        frozen=config.transfer in FROZEN,
        eval_names=data.val_names,
        seed=config.seed,
    )


def make_optimizer(net: nn.Module, optim: Optim) -> Optimizer:
    """The optimizer that `optim` describes; arguments that are left out have its own defaults."""
    given = {key: getattr(optim, key) for key in OPTIMIZER_ARGUMENTS[optim.name]}
    optimizer = OPTIMIZERS[optim.name](
        net,
        lr=optim.lr,
        weight_decay=optim.weight_decay,
        decay_all=optim.decay_all,
        **{key: value for key, value in given.items() if value is not None},
    )
    if optim.layer_decay is not None:
        decay_rates(optimizer, net, optim.layer_decay)
    return optimizer


def compile_nets(task: Classification, choice: Choice) -> None:
    """Compile the network and its average in place, so that the keys of their weights stay."""
    if choice.compile:
        torch.compiler.reset()  # what other runs of this process compiled counts towards its limit of recompilations
        task.net.compile(dynamic=False)
        if task.ema is not None:
            task.ema.net.compile(dynamic=False)


def fix_steps(
    config: Train,
    choice: Choice,
    net: nn.Module,
    data: DataModule,
    distill: Distillation | None,
    began: float,
) -> tuple[int, Clock | None]:
    """How many optimizer steps the run has: `steps`, or as many as fit into `budget`, or `epochs` of them.

    With `budget_by=clock` the number is an estimate, and the clock that has begun now ends the run.

    Args:
        began: when the time of the budget began, by `time.monotonic`.
    """
    epoch = Epoch(config.trainer, data)
    steps = config.steps or config.epochs * epoch.steps
    if config.budget is None:
        return steps, None
    if processes(config) > 1:
        raise UserError("budget is measured in one process; with several give epochs or steps instead")
    by_clock = config.budget_by == "clock"
    long = 0.02 * seconds(config.budget)
    costs = measure_sizes(config, choice, net, data, distill, min(long, ROUGHLY) if by_clock else long)
    mean = partial(Progressive(**vars(config.progressive)).mean, side=data.image_size)
    # The stages are shares of the steps or, by the clock, of the time.
    step = 1 / mean(lambda side: 1 / costs[side].step) if by_clock else mean(lambda side: costs[side].step)
    cost = Cost(step, costs[data.image_size].image)
    left = seconds(config.budget) - (time.monotonic() - began)
    margin = CLOCK_MARGIN if by_clock else MARGIN
    more = data.sizes.get("val", 0) * (1 + len(config.ema.compared))
    steps, scoring = affordable(cost, epoch, left, margin, more)
    measured = (config.budget, cost.step, steps, steps / epoch.steps)
    if by_clock:
        log.info(
            "budget %s: %.3f s a step, so about %d steps (%.2f epochs); the clock ends the training and moves the "
            "learning rate, so the run cannot be repeated exactly",
            *measured,
        )
        return steps, Clock(margin * left - scoring)
    log.info(
        "budget %s: %.3f s a step, so %d steps (%.2f epochs); steps=%d instead of the budget repeats this run exactly",
        *(*measured, steps),
    )
    return steps, None


def measure_sizes(
    config: Train, choice: Choice, net: nn.Module, data: DataModule, distill: Distillation | None, long: float
) -> dict[int, Cost]:
    """What a step costs with images of each size that the training has, measured in `long` seconds together."""
    costs: dict[int, Cost] = {}
    sides, steps = {*config.progressive.sizes, data.image_size}, 10**9  # no stage ends while it is measured
    for side in sides:
        only = schema.Progressive() if side == data.image_size else schema.Progressive([side], [1.0])
        any_length = replace(config.optim, warmup_epochs=None)
        task = make_task(replace(config, progressive=only, optim=any_length), deepcopy(net), data, steps, distill)
        compile_nets(task, choice)
        costs[side] = measure(task, data, choice, long / len(sides), config.trainer.accumulate_grad_batches)
    return costs


def read_summary(directory: Path) -> dict[str, Any]:
    """The summary of a run that continues.

    Raises:
        UserError: it is missing or damaged, or says no number of steps.
    """
    path, remedy = directory / "summary.json", "start a new run without resume"
    summary = read_json(path, remedy)
    if not isinstance(summary.get("steps"), int):
        raise UserError(f"{path} cannot be read (it has no number of steps); {remedy}")
    return summary


def beginning(config: Train, before: dict[str, Any], data: DataModule) -> dict[str, Any]:
    """What a summary says of the weights that the training began with.

    Args:
        before: the summary of a run that continues; its source may be gone.
    """
    if config.init_from is None or config.transfer == "scratch":
        return {"pretrained": bool(config.model.get("pretrained"))}
    source = before.get("init_from")
    if source is None:
        source = origin(config.init_from) | {"may_know_validation": may_know_validation(config.init_from, config, data)}
    return {"pretrained": True, "transfer": config.transfer, "init_from": source}


def count_sizes(config: Train, net: nn.Module, data: DataModule) -> dict[int, int]:
    """Multiply-accumulates of an image of each size that the training has.

    Args:
        net: not set up for the machine yet, for threads are not counted.

    Raises:
        UserError: a model that is transferred, or one that begins with smaller images, does not take such a size.
    """
    macs: dict[int, int] = {}
    for side in (data.image_size, *config.progressive.sizes):
        try:
            macs[side] = count_macs(net, side)
        except (AssertionError, RuntimeError, ValueError) as error:
            why = " ".join(str(error).split())[:80]
            if side != data.image_size:
                raise UserError(
                    f"the model does not take images of progressive.sizes {config.progressive.sizes} ({why}); "
                    "leave progressive out"
                ) from error
            if config.init_from is None:
                raise
            raise UserError(
                f"the model of {config.init_from} does not take images of {side} pixels ({why}); "
                "set data.image_size to that of its own images"
            ) from error
    return macs


def processes(config: Train) -> int:
    """How many processes train together."""
    return config.trainer.devices * config.trainer.num_nodes


def make_logger(config: Train, directory: Path, summary: dict[str, Any]) -> Wandb | TensorBoard | Csv | None:
    """The logger that `logger=` names; it continues the run of wandb that the summary names."""
    settings = asdict(config.logger)
    name = settings.pop("name")
    if name == "none":
        return None
    facts = asdict(config) | {key: value for key, value in summary.items() if key not in ("state", "wandb")}
    if name == "tensorboard":
        return TensorBoard(directory, facts)
    if name == "csv":
        return Csv(directory, facts)
    settings["tags"] = [*config.tags, *(settings["tags"] or [])] or None
    return Wandb(directory, config=facts, run_id=summary.get("wandb"), **settings)
