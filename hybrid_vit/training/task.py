"""The task: image classification as a LightningModule. Batches of (images, targets) in, loss and scores out.

It receives a network and knows nothing of how it was built. Every step seeds its own random numbers from
(seed, epoch, step), so that a run that was interrupted and resumed gives the same result as one without interruption.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from hybrid_vit.augment.draw import derive_seed
from hybrid_vit.evaluation.metrics import Scores
from hybrid_vit.training.distill import Distillation
from hybrid_vit.training.distributed import added, share, summed
from hybrid_vit.training.ema import EMA
from hybrid_vit.training.optim import Schedule
from hybrid_vit.training.progressive import Progressive
from hybrid_vit.training.transfer import train_unfrozen

TOTALS = "train_scores.totals"


class Classification(LightningModule):
    """Cross entropy with label smoothing; scores of the averaged weights where there is an average.

    Args:
        net: (B, 3, H, W) -> (B, num_classes).
        optimizer: net -> optimizer.
        schedule: learning rate over epochs.
        progress: the share of the schedule that is over, in [0, 1]; None where the number of steps says it.
        steps_per_epoch: optimizer steps of a whole epoch.
        progressive: sizes of training images, or None.
        accumulated: batches of a step; its gradient is the mean over all of their images.
        ema: the averaged copy of `net`, or None.
        compared: further averages, which are updated as `ema` is.
        distill: what a teacher adds to the loss, or None.
        score: "ema" or "raw": whose scores are reported.
        clip_norm: largest global norm of the gradient, or None.
        frozen: whether parts of `net` do not learn.
        eval_names: what the validation loaders hold, in their order ("val", "published_test").

    Attributes:
        step_images: how many images the last training step had in all processes together.
        side: how many pixels wide they were.
    """

    step_images: Tensor | int

    def __init__(
        self,
        *,
        net: nn.Module,
        optimizer: Callable[[nn.Module], Optimizer],
        schedule: Schedule,
        steps_per_epoch: int,
        progress: Callable[[], float] | None = None,
        progressive: Progressive | None = None,
        accumulated: int = 1,
        ema: EMA | None = None,
        compared: Sequence[EMA] = (),
        distill: Distillation | None = None,
        score: str = "raw",
        label_smoothing: float = 0.0,
        clip_norm: float | None = 1.0,
        frozen: bool = False,
        eval_names: Sequence[str] = ("val",),
        seed: int = 0,
    ) -> None:
        super().__init__()
        assert score == "raw" or ema is not None
        self.net, self.ema, self.distill, self.score = net, ema, distill, score
        self.compared = nn.ModuleList(compared)
        self.make_optimizer, self.schedule, self.steps_per_epoch = optimizer, schedule, steps_per_epoch
        self.progress, self.progressive, self.accumulated = progress, progressive, accumulated
        self.label_smoothing, self.clip_norm, self.seed = label_smoothing, clip_norm, seed
        self.frozen, self.eval_names = frozen, list(eval_names)
        self.train_scores = Scores()
        self.eval_scores = nn.ModuleList(Scores() for _ in self.eval_names)

    @property
    def scored(self) -> nn.Module:
        """The network whose scores are reported."""
        return self.net if self.score == "raw" or self.ema is None else self.ema.net

    def configure_optimizers(self):
        optimizer = self.make_optimizer(self.net)
        scheduler = LambdaLR(optimizer, lambda n: self.schedule.factor(self.epochs_after(n)))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.schedule.interval},
        }

    def epochs_after(self, n: int) -> float:
        """How many epochs of the schedule are over after n of its intervals, steps or epochs."""
        if self.progress is not None:
            return self.progress() * self.schedule.epochs
        return n / (1 if self.schedule.interval == "epoch" else self.steps_per_epoch)

    @property
    def share_done(self) -> float:
        """The share of the training that is over, in [0, 1]."""
        if self.progress is not None:
            return self.progress()
        return self.trainer.global_step / (self.schedule.epochs * self.steps_per_epoch)

    def on_train_start(self) -> None:
        """Modes, and rates as the schedule has them: those of a checkpoint may be of a shorter one, or of a clock."""
        if self.frozen:
            train_unfrozen(self.net)
        for config in self.trainer.lr_scheduler_configs:
            factor = self.schedule.factor(self.epochs_after(config.scheduler.last_epoch))
            for group, rate in zip(config.scheduler.optimizer.param_groups, config.scheduler.base_lrs, strict=True):
                group["lr"] = rate * factor

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Without the teacher, which is read from its own run again; with the scores of all processes so far."""
        weights = checkpoint["state_dict"] | {TOTALS: added(self.train_scores.totals)}
        checkpoint["state_dict"] = {key: weights[key] for key in weights if not key.startswith("distill.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """With the teacher, which Lightning wants there."""
        taught = {} if self.distill is None else self.distill.state_dict(prefix="distill.")
        checkpoint["state_dict"] = checkpoint["state_dict"] | taught
        if self.global_rank > 0:  # the first process counts what all have seen
            checkpoint["state_dict"][TOTALS] = torch.zeros_like(checkpoint["state_dict"][TOTALS])

    def on_train_batch_start(self, batch, batch_idx: int) -> None:
        torch.manual_seed(derive_seed(self.seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch, batch_idx: int) -> Tensor:
        images, targets = batch
        images = images.to(self.dtype)
        small = images if self.progressive is None else self.progressive(images, self.share_done)
        self.side = small.shape[-1]
        answers = self.net(small)
        logits = answers[:, 0] if answers.ndim == 3 else answers  # a distillation token answers to the teacher
        loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        if self.distill is not None:
            loss = self.distill(loss, answers, images)
        self.train_scores.update(logits.detach(), targets, loss.detach())
        self.step_images = summed(len(images), loss.device)
        self._logs = batch_idx // self.accumulated % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        if batch_idx % self.accumulated == 0:
            self._window: list[tuple[int, Tensor]] = []
            self._window_images: Tensor | int = 0
        if self._logs:
            self._window.append((len(images), loss.detach()))
        self._window_images = self._window_images + self.step_images
        return loss * share(len(images), self.step_images)

    def _loss(self) -> Tensor:
        """The mean over the images of the step so far."""
        counts, losses = zip(*self._window, strict=True)
        if len(losses) == 1:
            return losses[0]
        return sum(count * loss for count, loss in self._window) / sum(counts)  # type: ignore[return-value]

    def backward(self, loss: Tensor, *args, **kwargs) -> None:
        # Lightning averages over the batches of a step; batches may differ in size, and the last step in their number.
        super().backward(loss * self.step_images if self.accumulated > 1 else loss, *args, **kwargs)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self.accumulated > 1:
            for parameter in self.net.parameters():
                if parameter.grad is not None:
                    parameter.grad *= self.accumulated / self._window_images
        # Lightning's own clipping refuses a fused optimizer under bf16-mixed, where nothing is scaled anyway.
        if self.clip_norm is not None:
            norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.clip_norm)
        if self._logs and self.loggers:
            if self.clip_norm is None:
                norm = nn.utils.get_total_norm([p.grad for p in self.net.parameters() if p.grad is not None])
            rate = optimizer.param_groups[0]["lr"]
            values = {"train_loss_step": self._loss(), "grad_norm_step": norm, "lr_step": rate}
            # Not self.log: Lightning 2.6 gives loggers the last logged value at other steps than those it is logged in.
            for logger in self.loggers:
                logger.log_metrics(values | {"epoch": self.current_epoch}, self.global_step)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        for average in filter(None, (self.ema, *self.compared)):
            cast(EMA, average).update(self.net)

    def on_train_epoch_end(self) -> None:
        self._log("train", self.train_scores)

    def validation_step(self, batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        images, labels = batch
        cast(Scores, self.eval_scores[dataloader_idx]).update(self.scored(images.to(self.dtype)), labels)

    def on_validation_epoch_end(self) -> None:
        for name, scores in zip(self.eval_names, self.eval_scores, strict=True):
            self._log(name, cast(Scores, scores))

    def _log(self, name: str, scores: Scores) -> None:
        self.log_dict({f"{name}_{key}": value for key, value in scores.compute().items() if key != "images"})
        scores.reset()
