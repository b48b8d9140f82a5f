"""Suite loop: `hybrid_vit.train` with averaging, scores and logging, against a bare loop of the same step and data."""

import io
import tempfile
from contextlib import redirect_stderr
from itertools import count
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LambdaCallback

from hybrid_vit.benchmarks.table import Row, Table
from hybrid_vit.benchmarks.timing import Case, Span, Turn, compare, ratio
from hybrid_vit.benchmarks.work import Step
from hybrid_vit.config.compose import as_train, compose_config, resolve
from hybrid_vit.config.schema import Train
from hybrid_vit.data.loader import ResidentLoader
from hybrid_vit.fast.accelerator import choose, keep_memory
from hybrid_vit.training.parts import make_data, make_net, make_task
from hybrid_vit.training.run import train


def run(*, rounds: int, accelerator: dict[str, Any], batch_size: int) -> Table:
    """A row for each of `trainings`."""
    rows: list[Row] = []
    for name, (config, steps) in trainings(accelerator, batch_size).items():
        arguments = {"config": config, "steps": steps}
        seconds = compare([Case("bare", bare, arguments), Case("train", trained, arguments)], rounds=rounds)
        spans = {case: Span.of([1e3 * took for took in values]) for case, values in seconds.items()}
        rows.append(
            {
                "training": name,
                "bare loop, ms a step": spans["bare"],
                "hybrid_vit.train, ms a step": spans["train"],
                "speed kept": ratio(seconds, "bare", "train"),
            }
        )
    return Table("loop", "the whole training loop against a bare one", rows, ratio="speed kept")


def trainings(accelerator: dict[str, Any], batch_size: int) -> dict[str, tuple[Train, int]]:
    """Name -> configuration of a training, for ever and on embedded data, and the steps in a turn."""
    endless = ["data=digits", "data.val_size=0", "steps=1000000", "logger.mode=offline"]
    settings = {
        "hybrid_192": (["model=hybrid_192", f"batch_size={batch_size}"], 2),
        "quickstart": (["experiment=quickstart"], 44),
    }
    return {
        name: (as_train(resolve(compose_config([*more, *endless])) | {"accelerator": accelerator}), steps)
        for name, (more, steps) in settings.items()
    }


def bare(turn: Turn, config: Train, steps: int) -> None:
    """Case: the same batches and the same step, and nothing else."""
    keep_memory()
    choice = choose(**vars(config.accelerator))
    data = make_data(config)
    net = make_net(config, data, choice, fresh=True).to(choice.device)
    choice.tune(net)
    optimizer = make_task(config, net, data, config.steps or 1).make_optimizer(net)
    if choice.compile:
        net.compile(dynamic=False)
    step = Step(net, optimizer, bf16=choice.bf16)
    loader, done = data.train_dataloader(), 0
    assert isinstance(loader, ResidentLoader)
    loader.images, loader.labels = loader.images.to(choice.device), loader.labels.to(choice.device)  # as in a training
    for epoch in count():
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            if done % steps == 0:
                turn(steps)
            step(*data.on_after_batch_transfer(data.transfer_batch_to_device(batch, choice.device, 0), 0))
            done += 1


def trained(turn: Turn, config: Train, steps: int) -> None:
    """Case: the training itself, in a directory that is thrown away."""

    def pace(trainer: Trainer, *_: object) -> None:
        if trainer.global_step % steps == 0:
            if torch.cuda.is_initialized():  # steps that are only queued have not been made
                torch.cuda.synchronize()
            turn(steps)

    with tempfile.TemporaryDirectory() as directory, redirect_stderr(io.StringIO()):
        train(config, Path(directory), callbacks=[LambdaCallback(on_train_batch_start=pace)])
