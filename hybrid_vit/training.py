"""Training: a plain configuration and a run directory -> a trained, scored and summarised run in it."""

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from hybrid_vit.accelerator import choose, keep_memory
from hybrid_vit.augment import Augment
from hybrid_vit.callbacks import LAST, EpochTable, Keeper
from hybrid_vit.data.module import DataModule
from hybrid_vit.ema import EMA
from hybrid_vit.models import set_attention
from hybrid_vit.optim import OPTIMIZERS, Schedule
from hybrid_vit.runs import build
from hybrid_vit.task import Classification

log = logging.getLogger(__name__)


def train(spec: dict[str, Any], directory: Path, *, resume: bool = False) -> float:
    keep_memory()
    choice = choose(**spec["accelerator"])
    log.info("accelerator: %s, %s precision (%s)", choice.accelerator, choice.precision, choice.reason)
    seed = spec["seed"]
    data = DataModule(
        **spec["data"], batch_size=spec["batch_size"], augment=Augment(**build(spec["augment"])), seed=seed
    )
    data.prepare_data()
    data.setup()
    spec["model"]["num_classes"] = data.num_classes
    torch.manual_seed(seed)
    net = build(spec["model"])
    set_attention(net, choice.attention)
    optim = dict(spec["optim"])
    schedule = Schedule(
        lr=optim["lr"],
        epochs=spec["epochs"],
        **{key: optim.pop(key) for key in ("interval", "warmup_epochs", "warmup_start", "min_lr")},
    )
    name, clip_norm = optim.pop("name"), optim.pop("clip_norm")
    task = Classification(
        net=net,
        optimizer=lambda net: OPTIMIZERS[name](net, **optim),
        schedule=schedule,
        steps_per_epoch=data.steps_per_epoch,
        ema=EMA(net, **spec["ema"]) if spec["ema"]["decay"] else None,
        score=spec["score"],
        label_smoothing=spec["label_smoothing"],
        clip_norm=clip_norm,
        eval_names=data.val_names,
        seed=seed,
    )
    limits = dict(spec["trainer"])
    max_epochs, max_time = limits.pop("max_epochs"), limits.pop("max_time")
    trainer = pl.Trainer(
        accelerator=choice.accelerator,
        precision=choice.precision,
        max_epochs=max_epochs or spec["epochs"],
        callbacks=[
            EpochTable(directory / "metrics.csv", data.sizes["train"]),
            Keeper(directory / "checkpoints", every_minutes=spec["checkpoint_minutes"]),
        ],
        logger=False,
        default_root_dir=directory,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        **limits,
    )
    trainer.fit(task, datamodule=data, ckpt_path=directory / "checkpoints" / LAST if resume else None)
    return 0.0
