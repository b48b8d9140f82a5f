"""What happens around training: checkpoints by time and epoch, stopping cleanly, a NaN guard.

Checkpoints are written beside their final name and then renamed, so a file is whole or not there.
"""

import errno
import logging
import math
import os
import pickle
import signal
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import replacing

log = logging.getLogger(__name__)

LAST, PREVIOUS = "last.ckpt", "previous.ckpt"
# What Lightning writes, and needs to continue.
PARTS = {"state_dict", "loops", "callbacks", "optimizer_states", "lr_schedulers", "epoch", "global_step"}


class Stopped(Exception):
    """Training was asked to stop, and `last.ckpt` holds the state to continue from."""


def latest(directory: Path) -> Path | None:
    """The checkpoint from which a run continues: the last, or the one before it if the last is damaged.

    Args:
        directory: the run's `checkpoints/`.

    Returns:
        None: there is none yet.

    Raises:
        UserError: those that there are cannot be read; names them.
    """
    wrong: list[str] = []
    for path in filter(Path.exists, (directory / LAST, directory / PREVIOUS)):
        if (fault := damage(path)) is None:
            for other in wrong:
                log.warning("%s, so the run continues from %s", other, path)
            return path
        wrong.append(f"{path} cannot be used ({fault})")
    if not wrong:
        return None
    raise UserError(
        f"{'; '.join(wrong)}; copy a whole one there, or delete what is in {directory} to train from the beginning"
    )


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None. Nothing in it is executed."""
    try:
        if not zipfile.is_zipfile(path):
            return "it is empty, truncated or no checkpoint"
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # torch does not compare the checksums that it wrote
                return "it is damaged, its checksum differs"
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        return f"it is damaged or no checkpoint: {type(error).__name__}"
    return None if isinstance(state, dict) and state.keys() >= PARTS else "it is a file of another program"


class CheckpointFiles(TorchCheckpointIO):
    """Writes each checkpoint whole or not at all, in its own folder (Lightning's own goes through the system's /tmp).

    The `last.ckpt` before becomes `previous.ckpt`, for the case that the disk damages the newer one.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            try:
                torch.save(checkpoint, partial)
            except RuntimeError as error:  # torch's writer has no error of its own for a full disk
                if not any(name in str(error) for name in ("PytorchStreamWriter", "inline_container", "iostream")):
                    raise
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
            if path.name == LAST and path.exists():
                os.replace(path, path.with_name(PREVIOUS))


class Keeper(Checkpoint):
    """Writes `last.ckpt` every `every_minutes` and between epochs.

    SIGINT, SIGTERM, SIGUSR1 (of Slurm) and the end of `max_seconds` stop training after the running step, with a
    checkpoint of it. A loss or weights that are not finite stop training with a UserError before a checkpoint could
    hold them.

    Args:
        directory: where the checkpoints go.
        steps: of the whole training; it ends there, be it in the middle of an epoch. None: `ended` says when.
        every_minutes: longest time between two checkpoints.
        max_seconds: stop this long after training began, or None.
        ended: says why training ends before its last step, if it does; asked after each step and epoch.

    Raises:
        Stopped: from `trainer.fit`, once it has stopped in this way.
    """

    def __init__(
        self,
        directory: Path,
        *,
        steps: int | None,
        every_minutes: float,
        max_seconds: float | None,
        ended: Callable[[], str | None],
    ) -> None:
        self.directory, self.steps, self.ended = directory, steps, ended
        self.every, self.max_seconds = 60 * every_minutes, max_seconds
        self._resumed_at = 0
        self.reason: str | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._resumed_at = checkpoint["global_step"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = self._over(self._resumed_at)  # the checkpoint is that of the end

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = self._saved = time.monotonic()
        if self.steps is not None:
            # Not steps / steps of an epoch: a run that was lengthened may have an epoch that ended early.
            done = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.current.completed
            per_epoch = math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
            left = math.ceil((self.steps - trainer.global_step + done) / per_epoch)
            trainer.fit_loop.max_epochs = trainer.current_epoch + left
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            # Slurm's warning of a time limit; Lightning's own answer would start the run anew.
            slurm = [signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else []
            for number in (signal.SIGINT, signal.SIGTERM, *slurm):
                self._handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.reason in signal.Signals.__members__:
            if number != signal.SIGINT:  # of a launcher, which may send it to each process and to all of them
                return
            if callable(before := self._handlers.get(signal.SIGINT)):  # a person asks twice: do not wait for the step
                before(number, frame)  # Python's: KeyboardInterrupt, which leaves a notebook alive
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.reason = signal.Signals(number).name
        log.info("%s: stopping after this step; another Ctrl-C stops at once, without a checkpoint", self.reason)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch, batch_idx: int) -> None:
        # Lightning 2.6 counts one step too many for its loggers when it resumes from on_train_epoch_start.
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx: int) -> None:
        # Not Trainer(max_steps): with it Lightning 2.6 miscounts epochs on resume, and leaves out the last validation.
        if trainer.fit_loop._should_accumulate():  # nothing is saved or ends within a step
            return
        trainer.should_stop = trainer.should_stop or self._over(trainer.global_step)
        now = time.monotonic()
        if self.max_seconds is not None and now - self._began >= self.max_seconds:
            self.reason = f"trainer.max_time of {self.max_seconds:g} s"
        due = self._agreed(trainer, self.reason is not None or now - self._saved >= self.every)
        if due or trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._check_finite(trainer, outputs["loss"])
        # The last step of an epoch is saved with its validation, when the next epoch starts.
        if due and not trainer.should_stop and not trainer.fit_loop.epoch_loop._num_ready_batches_reached():
            self.save(trainer)
            self._stop(trainer)

    def _over(self, step: int) -> bool:
        return (self.steps is not None and step >= self.steps) or self.ended() is not None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for name in sorted(trainer.callback_metrics):
            if name.endswith("_loss"):
                self._check_finite(trainer, trainer.callback_metrics[name], name)
        trainer.should_stop = trainer.should_stop or self._over(trainer.global_step)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save_between_epochs(trainer)
        self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save_between_epochs(trainer)

    def _save_between_epochs(self, trainer: Trainer) -> None:
        # Lightning 2.6 counts an epoch twice when it resumes from on_train_epoch_end. Here the old epoch is counted
        # and the new one not begun; its counters of steps are set back now, as the new epoch would do next.
        loop = trainer.fit_loop.epoch_loop
        loop.batch_progress.reset_on_run()
        loop.scheduler_progress.reset_on_run()
        loop.automatic_optimization.optim_progress.reset_on_run()
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write `last.ckpt`, whole or not at all."""
        weights = trainer.lightning_module.parameters()
        self._check_finite(trainer, torch.stack([weight.detach().sum() for weight in weights]).sum(), "weights")
        trainer.save_checkpoint(self.directory / LAST)
        self._saved = time.monotonic()

    def _stop(self, trainer: Trainer) -> None:
        if self._agreed(trainer, self.reason is not None):
            raise Stopped(self.reason or "another process of the run")

    def _agreed(self, trainer: Trainer, decision: bool) -> bool:
        """Whether any process decides so: each has its own clock and signals, but all save and stop together."""
        return trainer.strategy.reduce_boolean_decision(decision, all=False)

    def _check_finite(self, trainer: Trainer, value: torch.Tensor, what: str = "loss") -> None:
        finite = bool(torch.isfinite(value))
        if not trainer.strategy.reduce_boolean_decision(finite, all=True):  # all processes end together
            became = "is not finite in another process," if finite else f"became {float(value)}"
            kept = self.directory / LAST
            raise UserError(
                f"the {what} {became} in epoch {trainer.current_epoch + 1}, step {trainer.global_step}; "
                + (f"the last good checkpoint is {kept}; " if kept.exists() else "")
                + "try a smaller optim.lr, a longer optim.warmup_epochs, or accelerator.precision=32"
            )

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        while self._handlers:
            number, before = self._handlers.popitem()
            if signal.getsignal(number) == self._on_signal:  # Lightning may have brought back what was before its own
                signal.signal(number, before)
