"""One trial: a configuration and a directory -> a run in it without its test, and how that ended.

A trial is a run that stops before the test set would be scored; `hybrid_vit.train resume=DIR` scores it then.
"""

import csv
import logging
import math
import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from hybrid_vit.config.build import build
from hybrid_vit.config.schema import Train
from hybrid_vit.fast.accelerator import choose
from hybrid_vit.training.callbacks import Keeper, Stopped, latest
from hybrid_vit.training.parts import make_data, make_net, make_task
from hybrid_vit.training.run import train
from hybrid_vit.utils.errors import UserError, out_of_memory, sentence, worker_died
from hybrid_vit.utils.files import read_json, write_json
from hybrid_vit.utils.logs import logged

log = logging.getLogger(__name__)

RIVALS = 3  # so many must be better
ERRORS = 2  # by so many standard errors
TIMED_STEPS = 50


class Pruned(Stopped):
    """Ended early: others cost no more and are better."""


class Untested(Stopped):
    """Trained to its end; a search leaves the test set alone."""


class Watch(Callback):
    """Times the first steps of a trial, ends it when it is hopeless, and before the test set would be scored.

    A trial is judged between two epochs, after the first third of them, while rates still warm up: see `hopeless`.

    Args:
        directory: of the trial, among those of the others.
        cost: what rivals may have no more of: "macs" or "step_seconds".

    Raises:
        Pruned, Untested: from `trainer.fit`.
    """

    def __init__(self, directory: Path, cost: str) -> None:
        self.directory, self.cost = directory, cost
        self.seconds: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last = time.monotonic()  # a run that continues in the middle of an epoch does not start it

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epochs, all_epochs = trainer.current_epoch, trainer.max_epochs or 0
        if epochs and 3 * epochs >= all_epochs and not asked(trainer):
            self.judge(epochs)
        self._last = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx: int) -> None:
        if len(self.seconds) < TIMED_STEPS and not trainer.fit_loop._should_accumulate():
            outputs["loss"].item()  # wait for the device
            now = time.monotonic()
            self.seconds.append(now - self._last)
            self._last = now

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # In a file and not in the checkpoint, which can be resumed without a search.
        if not (self.directory / "cost.json").exists():
            write_json(self.directory / "cost.json", {"step_seconds": statistics.median(self.seconds)})

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if (reason := asked(trainer)) in signal.Signals.__members__:
            raise Stopped(reason)  # in the last step: the next start finds the trial trained
        raise Untested("trained; its search does not score the test set")  # also if it stopped early

    def judge(self, epochs: int) -> None:
        """Compare the accuracy after so many epochs with that of the trials that have ended and cost no more."""
        most = costs(self.directory)[self.cost]
        rivals: list[float] = []
        for path in self.directory.parent.glob("*/trial.json"):
            end = read_json(path)
            if end["state"] in ("complete", "pruned") and end[self.cost] <= most:
                rivals += accuracies(path.parent)[epochs - 1 : epochs]
        accuracy = accuracies(self.directory)[epochs - 1]
        if hopeless(accuracy, rivals, images=read_json(self.directory / "summary.json")["images"]["val"]):
            raise Pruned(f"after {epochs} epochs {RIVALS} trials that cost no more are better than {accuracy:.2f} %")


def asked(trainer: Trainer) -> str | None:
    """What asked the training to stop, such as SIGINT."""
    return next(each.reason for each in trainer.callbacks if isinstance(each, Keeper))  # type: ignore[attr-defined]


def hopeless(accuracy: float, rivals: Sequence[float], *, images: int) -> bool:
    """Whether at least RIVALS of the others are better by more than chance, ERRORS standard errors of the difference.

    Accuracies are in per cent of the same number of images; the errors are those of two independent binomial shares,
    too large for the same images, so that the benefit of the doubt is the trial's.
    """

    def variance(top1: float) -> float:
        return top1 * (100 - top1) / images

    margins = [rival - accuracy - ERRORS * math.sqrt(variance(rival) + variance(accuracy)) for rival in rivals]
    return sum(margin > 0 for margin in margins) >= RIVALS


def ready(config: Train) -> None:
    """Look at what all trials need, with one of them.

    Raises:
        UserError: the machine, the data or the recipe will not do.
    """
    choice = choose(**vars(config.accelerator))
    data = make_data(config)
    net = make_net(config, data, choice, fresh=True)
    make_task(config, net, data, config.epochs * data.steps_per_epoch)


def attempt(config: Train, directory: Path, cost: str) -> dict[str, Any]:
    """Train a trial or continue it, and say how it ended.

    Returns:
        "state": complete, pruned, infeasible (cannot be built) or failed, and "why" if it is not complete; as far as it
        came "val_top1" (after its last epoch), "epochs", "macs", "step_seconds" (the median of the first steps),
        "parameters" and "seconds".

    Raises:
        Stopped: by a signal or by `trainer.max_time`; it can be continued.
    """
    try:
        build(config.model | {"num_classes": config.model["num_classes"] or 2})
    except UserError as error:
        return {"state": "infeasible", "why": str(error)}
    try:
        with logged(directory / "train.log", alone=True):
            try:
                watch = Watch(directory, cost)
                train(config, directory, checkpoint=latest(directory / "checkpoints"), callbacks=[watch])
            except Exception as error:
                if not isinstance(error, Stopped):
                    log.exception("failed")
                raise
        raise AssertionError("a trial ends with an exception")
    except Untested:
        ending = {"state": "complete"}
    except Pruned as error:
        ending = {"state": "pruned", "why": str(error)}
    except (UserError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not (out_of_memory(error) or worker_died(error)):
            raise
        ending = {"state": "failed", "why": sentence(error)}
    scores = accuracies(directory)
    reached: dict[str, Any] = {"val_top1": scores[-1], "epochs": len(scores)} if scores else {}
    return ending | reached | costs(directory)


def costs(directory: Path) -> dict[str, Any]:
    """What the run of a trial takes, as far as it is known."""
    summary = read_json(directory / "summary.json") if (directory / "summary.json").exists() else {}
    found = {key: summary[key] for key in ("macs", "parameters", "seconds") if key in summary}
    timed = directory / "cost.json"
    return found | (read_json(timed) if timed.exists() else {})


def accuracies(directory: Path) -> list[float]:
    """Validation top-1 in per cent after each epoch."""
    table = directory / "metrics.csv"
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8") as file:
        return [float(row["val_top1"]) for row in csv.DictReader(file)]
