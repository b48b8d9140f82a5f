"""A time budget: the first steps of a task, measured on a copy -> the number of steps that fit into the time.

The run itself then is the one that `steps=N` describes, whatever the clock says later. With `budget_by=clock` that
number is an estimate only: a `Clock` says how far the training is, and when it ends.
"""

import math
import signal
import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from hybrid_vit.data.module import DataModule
from hybrid_vit.fast.accelerator import Choice
from hybrid_vit.training.length import Epoch
from hybrid_vit.training.task import Classification
from hybrid_vit.utils.errors import UserError

MARGIN = 0.97  # of the time is planned for; the rest is for the start, the pictures and slower steps
CLOCK_MARGIN = 0.99  # the same where the clock ends the training, however slow the steps are


@dataclass(frozen=True)
class Cost:
    """Seconds of a training step, with all of its batches, and of scoring one image."""

    step: float
    image: float


class Clock(Callback):
    """How far a training is that has `seconds`: they begin with this object, and pause while the run is stopped.

    The elapsed seconds are part of the checkpoint's state, so that a resumed run goes on with its clock.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._began = time.monotonic()

    @property
    def progress(self) -> float:
        """In [0, 1]."""
        return min(1.0, self.elapsed / self.seconds)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "elapsed": self.elapsed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = state_dict["seconds"]
        self._began = time.monotonic() - state_dict["elapsed"]


class Stopwatch(Callback):
    """Stops training when `seconds` have passed and `at_least` steps are done; keeps the time at which each ended."""

    def __init__(self, seconds: float, at_least: int) -> None:
        self.seconds, self.at_least = seconds, at_least
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx: int) -> None:
        outputs["loss"].item()  # wait for the device
        if trainer.fit_loop._should_accumulate():
            return
        self.ends.append(time.monotonic())
        trainer.should_stop = len(self.ends) >= self.at_least and self.ends[-1] - self.ends[0] >= self.seconds


def measure(task: Classification, data: DataModule, choice: Choice, seconds: float, accumulated: int = 1) -> Cost:
    """Train `task` for about `seconds` and score a batch with it; the first steps, which warm up, do not count.

    Args:
        accumulated: batches of a step.
    """
    watch = Stopwatch(seconds, at_least=4)
    trainer = pl.Trainer(
        accelerator=choice.accelerator,
        precision=choice.precision,  # type: ignore[arg-type]
        devices=1,  # else Lightning takes all GPUs
        max_epochs=-1,  # the watch stops it
        callbacks=[watch],
        limit_val_batches=0,
        accumulate_grad_batches=accumulated,
        log_every_n_steps=1,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    try:
        trainer.fit(task, datamodule=data)
    except SystemExit as error:  # what Lightning makes of a signal
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise SystemExit(128 + signal.SIGTERM) from None
    data.trainer = None  # Lightning leaves it there, and a batch of one that does not train is not augmented
    device = torch.device(trainer.strategy.root_device)
    images = torch.zeros(100, 3, data.image_size, data.image_size, device=device, dtype=choice.dtype)
    scored = task.scored.to(device).eval()
    ends = []
    with torch.inference_mode(), trainer.precision_plugin.forward_context():
        for _ in range(3):
            scored(images).sum().item()
            ends.append(time.monotonic())
    return Cost(statistics.median(b - a for a, b in pairwise(watch.ends)), (ends[-1] - ends[-2]) / len(images))


def affordable(cost: Cost, epoch: Epoch, seconds: float, margin: float = MARGIN, more: int = 0) -> tuple[int, float]:
    """The steps that fit into `seconds` with the validations between, and how long the last of those and the test take.

    Args:
        margin: the share of `seconds` that is planned for.
        more: images that are scored once at the end besides, for the temperature and averages of other decays.

    Raises:
        UserError: not one step fits.
    """
    test, validation = cost.image * (epoch.test_images + more), cost.image * epoch.val_images
    steps = math.floor((margin * seconds - test - validation) / (cost.step + validation / epoch.steps))
    if steps < 1:
        raise UserError(
            f"the budget is too short: {seconds:.0f} s are left, a step takes {cost.step:.2f} s and scoring "
            f"{test + validation:.0f} s; try budget={math.ceil((test + 2 * validation + 50 * cost.step) / 60) + 1}m"
        )
    return steps, test + validation
