"""Two processes with half of each batch compute what one process with all of it does."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from hybrid_vit.distributed import SyncBatchNorm2d, share, synchronised

STILL = ("model.pos_drop_rate=0", "model.proj_drop_rate=0", "model.drop_path_rate=0")
SETTINGS = (
    *("experiment=quickstart", "data.val_size=1303", "batch_size=45", "epochs=7", "optim.warmup_epochs=1"),
    *("accelerator=cpu", "accelerator.precision=64-true", "logger=none", "trainer.log_every_n_steps=1", *STILL),
)


def train(directory: Path, *settings: str) -> list[dict[str, float]]:
    """Rows of metrics.csv of a training by the command."""
    command = [sys.executable, "-m", "hybrid_vit.train", *SETTINGS, *settings, f"hydra.run.dir={directory}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=directory.parent, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "sync_dist" not in ran.stderr
    with open(directory / "metrics.csv") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    """135 images in batches of 45, so that shares are uneven; 21 steps; 1303 images to validate on.

    In double precision: in single precision the difference of the sums' order is 1e-4 after as many steps.
    """
    one = train(tmp_path / "one")
    two = train(tmp_path / "two", "trainer.strategy=ddp", "trainer.devices=2")
    assert one[-1]["step"] == two[-1]["step"] >= 20
    for single, double in zip(one, two, strict=True):
        assert double["train_loss"] == pytest.approx(single["train_loss"], abs=1e-5)
        assert double["val_loss"] == pytest.approx(single["val_loss"], abs=1e-5)
        assert double["val_top1"] == pytest.approx(single["val_top1"], abs=1e-4)  # one image is 0.08
    assert (tmp_path / "two" / "model.safetensors").exists()


def test_alone_it_is_batchnorm() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    keys = list(plain.state_dict())
    x = torch.randn(2, 3, 5, 5)
    expected = plain(x)
    net = synchronised(plain)
    assert isinstance(net[1], SyncBatchNorm2d)
    assert list(net.state_dict()) == keys
    torch.testing.assert_close(net(x), expected)
    assert share(7, torch.device("cpu")) == 1
