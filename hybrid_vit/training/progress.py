"""How far a training is: a table with a row an epoch, and a progress bar."""

import logging
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from hybrid_vit.utils.files import write_csv

log = logging.getLogger(__name__)


class EpochTable(Checkpoint):
    """`metrics.csv`: one row an epoch with every score, the learning rate, seconds and training images a second.

    It is part of the checkpoint's state, so that a resumed run has each epoch once. (It is a `Checkpoint` because
    Lightning calls those after the task has logged its scores, and all other callbacks before.)

    Attributes:
        sides: how many images of each size, in pixels, this process has trained on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, float]] = []
        self.sides: Counter[int] = Counter()
        self._seconds = 0.0  # of this epoch, spent before it was interrupted
        self._train_seconds = 0.0
        self._images: torch.Tensor | int = 0  # of all processes; a tensor while reading it would wait for the device

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began, self._seconds, self._images = time.monotonic(), 0.0, 0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx: int) -> None:
        self._train_seconds = self._elapsed()
        self._images = self._images + pl_module.step_images  # type: ignore[operator]
        self.sides[pl_module.side] += len(batch[0])  # type: ignore[index]

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        images = int(self._images)
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            **metrics,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(self._elapsed(), 3),
            "images": images,
            "images_per_second": round(images / self._train_seconds, 1),
        }
        self.rows.append(row)
        write_csv(self.path, self.rows)
        more = {key: value for key, value in row.items() if key not in metrics} | best(self.rows)
        for logger in trainer.loggers:
            logger.log_metrics(more, trainer.global_step - 1)  # Lightning's loggers count from 0
        shown = "  ".join(f"{k} {v:.2f}" for k, v in metrics.items() if k.endswith(("loss", "top1")))
        log.info("epoch %s  %s  %.0f s  %.0f img/s", counted(trainer), shown, row["seconds"], row["images_per_second"])

    @property
    def seconds(self) -> float:
        """Of all epochs that have ended."""
        return round(sum(row["seconds"] for row in self.rows), 1)

    def _elapsed(self) -> float:
        return self._seconds + time.monotonic() - self._began

    def state_dict(self) -> dict[str, Any]:
        counts = {"images": int(self._images), "sides": dict(self.sides)}
        return {"rows": self.rows, "seconds": self._elapsed(), **counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self._seconds = list(state_dict["rows"]), state_dict["seconds"]
        self._images, self.sides = state_dict["images"], Counter(state_dict["sides"])


def counted(trainer: Trainer) -> str:
    """Which epoch it is; people count from 1, `metrics.csv` from 0."""
    last = f" of {trainer.max_epochs}" if trainer.max_epochs != -1 else ""
    return f"{trainer.current_epoch + 1}{last}"


def best(rows: list[dict[str, float]]) -> dict[str, float]:
    """The best value so far of each validation score: the lowest loss, the highest of the others."""
    names = [name for name in rows[-1] if name.startswith("val_")]
    choose = {name: min if name.endswith("loss") else max for name in names}
    return {f"best_{name}": choose[name](row[name] for row in rows) for name in names}


class Bar(ProgressBar):
    """A progress bar for the whole training of `steps`, with the time that is left, and one while images are scored.

    Only on a terminal.
    """

    shown = ("val_top1", "published_test_top1")

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self._bar: Any = None
        self._scoring: Any = None
        self._scores: dict[str, str] = {}

    def disable(self) -> None:
        """Lightning calls this where another process shows the bar."""
        self._bar = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero:
            self._bar = tqdm(
                total=self.steps, initial=trainer.global_step, unit="step", dynamic_ncols=True, disable=None
            )

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx: int) -> None:
        if self._bar is not None and not self._bar.disable:
            if batch_idx % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
                loss = float(outputs["loss"]) * trainer.accumulate_grad_batches  # Lightning has divided it
                values = {"epoch": counted(trainer), "loss": f"{loss:.3f}", **self._scores}
                self._bar.set_postfix(**values, refresh=False)
            self._bar.update(trainer.global_step - self._bar.n)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._bar is not None:
            batches = sum(map(int, trainer.num_val_batches))
            self._scoring = tqdm(total=batches, desc="validation", unit="batch", leave=False, disable=None, position=1)

    def on_validation_batch_end(self, *arguments: Any) -> None:
        if self._scoring is not None:
            self._scoring.update()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._scoring is not None:
            self._scoring.close()
            self._scoring = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._scores = {k: f"{float(v):.2f}" for k, v in trainer.callback_metrics.items() if k in self.shown}

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")  # which Lightning calls after a normal end only

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        for bar in (self._scoring, self._bar):
            if bar is not None:
                bar.close()
