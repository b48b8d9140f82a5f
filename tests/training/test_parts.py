"""What a configuration says reaches the parts of a training."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_runs import TINY

from hybrid_vit.config.compose import as_train, compose_config, resolve
from hybrid_vit.fast.accelerator import choose
from hybrid_vit.models import WhiteningConv
from hybrid_vit.training.parts import make_data, make_net, make_task
from hybrid_vit.training.run import train


def test_the_settings_reach_the_task_and_its_optimizer() -> None:
    settings = [
        *("label_smoothing=0.3", "optim.clip_norm=0.7", "optim.lr=0.01", "optim.min_lr=1e-5", "optim.schedule=linear"),
        *("optim.interval=epoch", "optim.warmup_epochs=2", "optim.decay_all=true", "optim.weight_decay=0.02"),
        *("optim.betas=[0.8,0.9]", "optim.eps=1e-6", "ema.decay=0.9", "ema.warmup=false", "ema.compared=[0.5]"),
        *("progressive.sizes=[16]", "progressive.until=[0.25]", "transfer=full", "score=raw", "seed=7"),
    ]
    config = as_train(resolve(compose_config([*TINY, *settings])))
    data = make_data(config)
    net = make_net(config, data, choose("cpu"), fresh=True)
    task = make_task(config, net, data, steps=15)
    assert (task.label_smoothing, task.clip_norm, task.score, task.seed) == (0.3, 0.7, "raw", 7)
    assert task.ema is not None and (task.ema.decay, task.ema.warmup) == (0.9, False)
    assert [average.decay for average in task.compared] == [0.5]
    assert task.progressive is not None and task.progressive.stages == [(16, 0.25)]
    assert (task.steps_per_epoch, task.frozen) == (5, False)
    schedule = task.schedule
    assert (schedule.lr, schedule.min_lr, schedule.shape, schedule.interval) == (0.01, 1e-5, "linear", "epoch")
    assert (schedule.epochs, schedule.warmup_epochs) == (3, 2)
    optimizer = task.make_optimizer(net)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.02}  # of all parameters
    assert {(group["lr"], group["betas"], group["eps"]) for group in optimizer.param_groups} == {
        (0.01, (0.8, 0.9), 1e-6)
    }


def test_the_fast_recipe_trains_and_whitens(tmp_path: Path, without_pictures: None) -> None:
    settings = ["experiment=fast_4m", "data=digits", "steps=4", "logger=none", "accelerator=cpu", "batch_size=64"]
    small = ["model.embed_dim=32", "model.stem.channels=[8,16,32]"]
    config = as_train(resolve(compose_config([*settings, *small])))
    train(config, tmp_path)
    white = WhiteningConv(2)
    white.whiten(make_data(config).training_images(5000))
    trained = load_file(tmp_path / "model.safetensors")
    (name,) = [key for key in trained if key.endswith("white.weight")]
    torch.testing.assert_close(trained[name], white.weight)


@pytest.mark.parametrize("name", ["run_192", "run_384"])
def test_the_experiments_of_the_published_runs_have_their_lengths(name: str) -> None:
    spec = resolve(compose_config([f"experiment={name}"]))
    expected = {"run_192": (200, 4e-4, 0.0, "step"), "run_384": (201, 3e-4, 1e-5, "epoch")}
    found = (spec["epochs"], *(spec["optim"][key] for key in ("lr", "min_lr", "interval")))
    assert found == expected[name] and spec["optim"]["schedule"] == "cosine"
