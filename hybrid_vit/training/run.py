"""A training, from its configuration to its summary in a run directory: prepare, fit, finish."""

import logging
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.profilers import AdvancedProfiler, PyTorchProfiler, SimpleProfiler
from lightning.pytorch.utilities import rank_zero_only
from tqdm.contrib.logging import logging_redirect_tqdm

from hybrid_vit.config.build import untrained
from hybrid_vit.config.schema import Train
from hybrid_vit.data.module import changes
from hybrid_vit.deploy.scoring import logits_of_part, score_test_set
from hybrid_vit.deploy.trained import read_description
from hybrid_vit.deploy.weights import another_model, write_weights
from hybrid_vit.evaluation.calibration import ENOUGH, fit_temperature
from hybrid_vit.evaluation.metrics import predictions
from hybrid_vit.evaluation.plots import confusion_matrix, examples, learning_curve
from hybrid_vit.evaluation.scoring import forgotten, per_class
from hybrid_vit.fast.accelerator import choose, keep_memory
from hybrid_vit.training.budget import Clock
from hybrid_vit.training.callbacks import CheckpointFiles, Keeper, Stopped
from hybrid_vit.training.console import announce, protocol, quieten, show
from hybrid_vit.training.length import Epoch
from hybrid_vit.training.lightning_callbacks import early_stopping, named, stopped_early
from hybrid_vit.training.local_loggers import Csv, TensorBoard
from hybrid_vit.training.parts import (
    beginning,
    compile_nets,
    count_sizes,
    fix_steps,
    make_data,
    make_logger,
    make_net,
    make_task,
    make_teacher,
    model_spec,
    processes,
    read_summary,
)
from hybrid_vit.training.progress import Bar, EpochTable
from hybrid_vit.training.progressive import Progressive
from hybrid_vit.training.wandb_logger import Wandb
from hybrid_vit.utils.durations import seconds
from hybrid_vit.utils.errors import UserError, sentence, worker_died
from hybrid_vit.utils.files import json_text, read_json, write_csv, write_json
from hybrid_vit.utils.limits import WARMUP_EPOCHS
from hybrid_vit.utils.paths import WEIGHTS
from hybrid_vit.utils.processes import is_helper
from hybrid_vit.utils.provenance import peak_memory_mib, provenance, reset_peak_memory

log = logging.getLogger(__name__)

FEW_STEPS = 100  # with fewer, a trained model has hardly begun to learn other classes
EXAMPLES = 32  # augmented images in a run's picture
PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}


def train(
    config: Train,
    directory: Path,
    *,
    checkpoint: Path | None = None,
    callbacks: Sequence[pl.Callback] = (),
    started: Callable[[], None] = lambda: None,
) -> float:
    """Train, score and summarise the run that `config` describes.

    Args:
        directory: where it lies; nothing is written there before training can begin.
        checkpoint: one of its own, to continue from. A run that is done is lengthened to what `config` says.
        callbacks: further ones for Lightning's trainer.
        started: called after all checks, before the first file is written.

    Returns:
        What a sweep compares: validation top-1 in per cent, or test top-1 where there is no validation split.

    Raises:
        Stopped: stopped before its end, on purpose; the run can be resumed.
        UserError: something that the user can fix, in one sentence.
    """
    run = Run(config, directory, checkpoint)
    if rank_zero_only.rank or is_helper():  # type: ignore[attr-defined]  # the first process reports
        run.fit(callbacks)
        return math.nan
    started()
    with run.reported():
        try:
            run.fit(callbacks)
            run.finish()
        finally:
            run.data.teardown("test")  # ends the processes that read pictures
    show(run.summary, directory, config.data)
    scores = run.summary["scores"]
    return scores.get("val_top1", scores["test_top1"])


class Run:
    """A training: prepared from its configuration, ready to `fit` and then to `finish`.

    Attributes:
        macs: multiply-accumulates of an image of each size.
        steps: optimizer steps of the whole training; with a clock an estimate.
        summary: the content of summary.json, as far as it is known.
    """

    def __init__(self, config: Train, directory: Path, checkpoint: Path | None) -> None:
        """Look at the machine, load the data, build the network, fix the number of steps; nothing is written yet."""
        began, now = time.monotonic(), datetime.now(UTC)
        quieten()
        keep_memory()
        reset_peak_memory()
        choice = choose(**vars(config.accelerator))
        log.info("%s, %s precision: %s", choice.accelerator, choice.precision, choice.reason)
        data = make_data(config)
        if config.ema.compared and "val" not in data.val_names:
            raise UserError("ema.compared needs validation images; keep some with data.val_size=N, or leave it out")
        if checkpoint:
            check_same_data(directory, data.fingerprint())
        net = make_net(config, data, choice, fresh=checkpoint is None)
        macs = count_sizes(config, net, data)
        choice.tune(net)
        before = read_summary(directory) if checkpoint else {}
        teacher = make_teacher(config, choice, data)
        epoch = Epoch(config.trainer, data)
        validated = "val" in data.val_names and epoch.val_batches != 0
        self.stopping = early_stopping(config.early_stopping, validated, data.num_classes)
        self.named = named(config.callbacks, cuda=choice.accelerator == "gpu")
        lengthened = before.get("lengthened", [])
        if checkpoint and before["state"] != "done":
            steps = before["steps"]
            clock = Clock(seconds(config.budget)) if config.budget_by == "clock" and config.budget else None
            if clock and processes(config) > 1:
                raise UserError("a run that the clock ends continues in one process; use trainer.devices=1")
        else:
            if checkpoint:
                lengthened = [*lengthened, before["steps"]]
            steps, clock = fix_steps(config, choice, net, data, teacher, began)
        learns = config.init_from and config.transfer != "scratch" and not checkpoint
        chosen = config.steps or config.budget or config.trainer.limit_train_batches
        if learns and not chosen and steps < FEW_STEPS:
            log.warning("%d steps are few; steps=300 suits some hundreds of images to some thousands", steps)
        task = make_task(config, net, data, steps, teacher, clock)
        data.weak = lambda: task.share_done >= config.augment_until
        if task.schedule.warmup_epochs < WARMUP_EPOCHS and config.optim.warmup_epochs is None:
            log.info(
                "warm-up of %d epochs shortened to %.3g: %g of %.3g epochs (optim.warmup_epochs sets another)",
                *(WARMUP_EPOCHS, task.schedule.warmup_epochs, config.optim.warmup_share, task.schedule.epochs),
            )
        compile_nets(task, choice)
        machine = {
            "device": choice.device_name,
            "accelerator": asdict(choice),
            "threads": torch.get_num_threads(),
            **provenance(),
        }
        earlier = [*before.get("earlier", []), {key: before.get(key) for key in machine}] if before else []
        announce(config, data, task, macs[data.image_size], f"{'about ' if clock else ''}{steps:,} steps")
        self.summary: dict[str, Any] = {
            "name": config.name,
            "state": "running",
            **({"tags": config.tags} if config.tags else {}),
            "seed": config.seed,
            "steps": steps,
            **({"lengthened": lengthened} if lengthened else {}),
            "epochs": steps / epoch.steps,
            "budget": config.budget,
            **({"budget_by": "clock"} if clock else {}),
            "parameters": sum(weight.numel() for weight in net.parameters()),
            "trained_parameters": sum(weight.numel() for weight in net.parameters() if weight.requires_grad),
            "macs": macs[data.image_size],
            "training_macs": Progressive(**vars(config.progressive)).mean(macs.__getitem__, data.image_size),
            "images": data.sizes,
            **beginning(config, before, data),
            "protocol": protocol(data, config.score, epoch.limited),
            **({"limited": epoch.limited} if epoch.limited else {}),
            **machine,
            **({"earlier": others} if (others := [part for part in earlier if part != machine]) else {}),
            "started": before.get("started") or now.isoformat(timespec="seconds"),
            **{key: before[key] for key in ("wandb",) if before.get(key)},
        }
        self.config, self.directory, self.checkpoint = config, directory, checkpoint
        self.choice, self.data, self.task, self.epoch = choice, data, task, epoch
        self.macs, self.steps, self.clock = macs, steps, clock
        self.table = EpochTable(directory / "metrics.csv")
        self.logger: Wandb | TensorBoard | Csv | None = None

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Within, summary.json says that the run is running; afterwards, how it ended."""
        # The weights of a run that is lengthened keep what was fitted to them.
        old = read_json(self.directory / "model.json") if (self.directory / WEIGHTS).is_file() else {}
        self.describe(old.get("temperature"))
        self.logger = make_logger(self.config, self.directory, self.summary)
        if isinstance(self.logger, Wandb) and self.logger.version:
            self.summary["wandb"] = self.logger.version
        self.write_summary()
        try:
            yield
            self.summary |= {"state": "done", "finished": datetime.now(UTC).isoformat(timespec="seconds")}
            self.write_summary()
        except BaseException as error:
            ended = "stopped" if isinstance(error, Stopped | KeyboardInterrupt) else "failed"
            told = sentence(error) if isinstance(error, Exception) else str(error)
            reason = " ".join(told.split()) or type(error).__name__
            self.summary |= {"state": ended, "reason": reason, "seconds": self.table.seconds}
            self.write_summary(whole=False)
            raise
        finally:
            if self.logger:
                self.logger.finish(self.summary)

    def describe(self, temperature: float | None = None) -> None:
        """Write model.json: how the model is built, and the temperature if one is fitted."""
        description = {
            "model": untrained(model_spec(self.config, self.data)),
            "class_names": self.data.class_names,
            "image_size": self.data.image_size,
            "mean": self.data.mean,
            "std": self.data.std,
            "data": asdict(self.config.data),
            "fingerprint": self.data.fingerprint(),
            "seed": self.config.seed,
        }
        fitted = {} if temperature is None else {"temperature": temperature}
        write_json(self.directory / "model.json", description | fitted)

    def write_summary(self, *, whole: bool = True) -> None:
        """Write summary.json, whole or not at all; if not `whole`, in its old place where the disk has no other."""
        path = self.directory / "summary.json"
        try:
            write_json(path, self.summary)
        except OSError:  # a full disk; the error that matters is told already
            if whole:
                raise
            with suppress(OSError):
                path.write_text(json_text(self.summary), encoding="utf-8")

    def fit(self, callbacks: Sequence[pl.Callback] = ()) -> None:
        """Run Lightning's loop to the last step, from the beginning or from a checkpoint.

        Raises:
            Stopped: it did not get there, because of a signal or `trainer.max_time`.
        """
        if not (rank_zero_only.rank or is_helper()):  # type: ignore[attr-defined]
            self.picture_batch()
        limits = asdict(self.config.trainer)
        max_time, profiler = limits.pop("max_time"), limits.pop("profiler")
        del limits["limit_test_batches"]  # the scoring at the end is ours
        limits |= {"limit_train_batches": self.epoch.batches, "limit_val_batches": self.epoch.val_batches}
        limits["log_every_n_steps"] = min(limits["log_every_n_steps"], self.epoch.steps)
        keeper = Keeper(
            self.directory / "checkpoints",
            steps=None if self.clock else self.steps,
            ended=self.ended,
            every_minutes=self.config.checkpoint_minutes,
            max_seconds=seconds(max_time) if max_time else None,
        )
        own = [callback for callback in (self.clock, self.stopping) if callback]
        trainer = pl.Trainer(
            accelerator=self.choice.accelerator,
            precision=self.choice.precision,  # type: ignore[arg-type]
            max_epochs=-1,  # the keeper knows
            callbacks=[*own, self.table, keeper, Bar(self.steps), *self.named, *callbacks],
            plugins=[CheckpointFiles()],
            default_root_dir=self.directory,
            use_distributed_sampler=False,
            logger=self.logger or (DummyLogger() if self.config.logger.name != "none" else False),
            enable_model_summary=False,
            profiler=PROFILERS[profiler](self.directory, "profile") if profiler else None,
            num_sanity_val_steps=0,
            **limits,
        )
        interrupts = signal.getsignal(signal.SIGINT)
        with logging_redirect_tqdm():
            try:
                trainer.fit(self.task, datamodule=self.data, ckpt_path=self.checkpoint, weights_only=True)
            except RuntimeError as error:
                if self.checkpoint and "loading state_dict" in str(error):
                    raise another_model(self.checkpoint, error) from None
                if keeper.reason and worker_died(error):  # the signal ended one before the step
                    raise Stopped(keeper.reason) from None
                raise
            except SystemExit as error:  # Lightning's, of Ctrl-C while the keeper does not listen
                if isinstance(error.__context__, KeyboardInterrupt):
                    signal.signal(signal.SIGINT, interrupts)  # Lightning ignores them from then on
                    raise KeyboardInterrupt from None
                raise
        if keeper.reason in signal.Signals.__members__:  # in the last step: the checkpoint is that of the end
            raise Stopped(keeper.reason)
        for path in sorted(self.directory.glob("*-profile.*")):
            log.info("profile: %s", path)
        done = trainer.global_step
        if not done:
            raise UserError(f"the budget of {self.config.budget} was over before the first step; give a longer one")
        reason = stopped_early(self.stopping)
        if done < self.steps and not self.ended():
            if not trainer.should_stop:
                raise RuntimeError(f"training ended after {done} of {self.steps} steps, and nothing asked it to")
            reason = "a callback ended it"
        if reason:
            log.info("training ended after %d of %d steps: %s", done, self.steps, reason)
            self.summary["stopped_early"] = reason
        self.steps = done

    def ended(self) -> str | None:
        """Why training ends where it is, if that is not its last step."""
        if self.clock and self.clock.progress == 1:
            return f"the budget of {self.config.budget} is over"
        return stopped_early(self.stopping)

    def picture_batch(self) -> None:
        """augmented.png: the first augmented images, as the network will see them, with the names of their classes."""
        path, data = self.directory / "augmented.png", self.data
        images, targets = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
        data.teardown("fit")  # ends the processes that have read pictures
        images = Progressive(**vars(self.config.progressive))(images[:EXAMPLES], 0.0)
        examples(data.denormalize(images), targets[:EXAMPLES], data.class_names, path)
        if self.logger and not self.checkpoint:
            self.logger.log_picture("augmented", path)

    def finish(self) -> None:
        """Write the last weights and score them, once, on the whole test set in this process alone; draw pictures.

        Raises:
            UserError: their loss is not finite.
        """
        data, directory, table = self.data, self.directory, self.table
        net = self.task.scored
        write_weights(directory, net.state_dict())  # first: no unreadable picture may lose it
        self.describe()
        values, confusion = score_test_set(net, data, self.choice, self.epoch.test_batches)
        source = self.summary.get("init_from")
        known = source and source.get("may_know_validation", True)  # runs of before do not say
        if data.sizes.get("val", 0) >= ENOUGH and not known:
            self.describe(fit_temperature(*logits_of_part(net, data, self.choice, "val")))
        for average, decay in zip(self.task.compared, self.config.ema.compared, strict=True):
            logits, labels = logits_of_part(average, data, self.choice, "val")
            top1 = 100 * (predictions(logits) == labels).sum().item() / len(labels)
            self.summary["compared"] = self.summary.get("compared", {}) | {f"{decay:g}": top1}
        images = {**data.sizes, "test": values.pop("images")}
        tested = {f"test_{key}": value for key, value in values.items()}
        tested |= forgotten(self.summary.get("init_from"), tested)
        curve = directory / "learning_curve.png"
        learning_curve(table.rows, curve, title=directory.name, epochs=self.steps / self.epoch.steps)
        confusion_matrix(confusion, data.class_names, directory / "confusion.png", title=f"{directory.name}: test set")
        write_csv(directory / "per_class.csv", per_class(confusion, data.class_names))
        if self.logger:
            ended = {key: int(table.rows[-1][key]) for key in ("epoch", "step")}
            self.logger.log_results(tested, confusion, data.class_names, **ended)
        training_macs = sum(count * self.macs[side] for side, count in table.sides.items()) / table.sides.total()
        self.summary |= {
            "steps": self.steps,
            "epochs": self.steps / self.epoch.steps,
            "training_macs": training_macs,
            "gmac_epochs": training_macs / 1e9 * self.steps / self.epoch.steps,
            "images": images,
            "scores": {key: value for key, value in table.rows[-1].items() if key.startswith("val_")} | tested,
            "seconds": table.seconds,
            "images_per_second": statistics.median(row["images_per_second"] for row in table.rows),
            "peak_memory_mib": peak_memory_mib(self.choice.device),
        }


def check_same_data(directory: Path, fingerprint: dict[str, Any]) -> None:
    """A run continues on the data that it began with: its splits, its shuffles and its classes are those of that data.

    Raises:
        UserError: the data has changed; says how.
    """
    before = read_description(directory).get("fingerprint")
    if before and (found := changes(before, fingerprint)):
        raise UserError(
            f"the data has changed since {directory} began: {', '.join(found)}; "
            "restore that data, or start a new run without resume"
        )
