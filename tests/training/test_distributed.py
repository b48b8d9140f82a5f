"""Two processes with half of each batch compute what one process with all of it does."""

import csv
import importlib.util
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch
import torch.distributed as dist
from commands import main
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image
from served import free_port
from small_runs import no_pictures
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from hybrid_vit.training.distributed import (
    CudaSyncBatchNormAct,
    SyncBatchNorm,
    SyncBatchNormAct,
    share,
    summed,
    synchronised,
)

STILL = ("model.pos_drop_rate=0", "model.proj_drop_rate=0", "model.drop_path_rate=0")
SETTINGS = (
    *("experiment=quickstart", "data.val_size=89", "data.fraction=0.1", "batch_size=45", "epochs=7"),
    *("model.embed_dim=32", "model.depth=2", "model.stem.channels=[8,16,32]", "optim.warmup_epochs=1"),
    *("accelerator=cpu", "accelerator.precision=64-true", "logger=none", "trainer.log_every_n_steps=1", *STILL),
)


TWO = ("trainer.strategy=ddp", "trainer.devices=2")


def by_command(directory: Path, *settings: str) -> None:
    """A training by the command, which starts its second process itself."""
    command = [sys.executable, "-m", "hybrid_vit.train", *settings, *TWO, f"hydra.run.dir={directory}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=directory.parent, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "sync_dist" not in ran.stderr


def by_forks(directory: Path, *settings: str, leader: tuple[str, ...] = ()) -> None:
    """The same training in two processes that know their rank, as torchrun starts them.

    Args:
        leader: further settings of the first.
    """
    forked.run(training_of_rank, str(directory), free_port(), settings, leader, processes=2)


def training_of_rank(rank: int, directory: str, port: int, settings: tuple[str, ...], leader: tuple[str, ...]) -> None:
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    rank_zero_only.rank = rank  # Lightning reads LOCAL_RANK when it is imported, which it was before this process was
    torch.set_num_threads(1)
    warnings.filterwarnings("error", message=".*sync_dist")
    own = ("hydra.job.name=helper", "hydra.output_subdir=null") if rank else leader  # as Lightning calls the others
    with no_pictures():
        assert main(*settings, *TWO, f"hydra.run.dir={directory}", *own) == 0


def metrics(directory: Path) -> list[dict[str, float]]:
    with open(directory / "metrics.csv", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def scored_images(directory: Path) -> int:
    """How many images the classes of the test set have together."""
    with open(directory / "per_class.csv", encoding="utf-8") as file:
        return sum(int(row["images"]) for row in csv.DictReader(file))


def summary(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "summary.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("start", [by_forks, pytest.param(by_command, marks=pytest.mark.slow)])
def test_two_processes_have_the_losses_and_the_scores_of_one(
    start: Callable[..., None], tmp_path: Path, without_pictures: None
) -> None:
    """135 images in batches of 45, so that shares are uneven; 21 steps; 89 images to validate on.

    In double precision: in single precision the difference of the sums' order is 1e-4 after as many steps.
    """
    assert main(*SETTINGS, f"hydra.run.dir={tmp_path / 'one'}") == 0  # in this process
    start(tmp_path / "two", *SETTINGS)
    one, two = metrics(tmp_path / "one"), metrics(tmp_path / "two")
    assert one[-1]["step"] == two[-1]["step"] >= 20
    for single, double in zip(one, two, strict=True):
        assert double["train_loss"] == pytest.approx(single["train_loss"], abs=1e-5)
        assert double["val_loss"] == pytest.approx(single["val_loss"], abs=1e-5)
        assert double["val_top1"] == pytest.approx(single["val_top1"], abs=1e-4)  # one image is 1.1
        assert double["images"] == single["images"] == 135
    assert (tmp_path / "two" / "model.safetensors").exists()
    assert scored_images(tmp_path / "two") == scored_images(tmp_path / "one") == 359
    single, double = summary(tmp_path / "one"), summary(tmp_path / "two")
    assert double["images"] == single["images"] == {"train": 135, "val": 89, "test": 359}
    assert double["scores"]["test_top1"] == single["scores"]["test_top1"]
    assert double["scores"]["test_loss"] == pytest.approx(single["scores"]["test_loss"], abs=1e-5)


def test_two_processes_save_and_stop_together(tmp_path: Path) -> None:
    """Only the first one's clock says so; the second would wait for ever in a collective that nobody else enters."""
    logged = ("logger=csv", "callbacks=[LearningRateMonitor]")
    when = ("checkpoint_minutes=1e-4", "trainer.max_time=3s")
    by_forks(tmp_path, *SETTINGS, "epochs=1000", "data.val_size=0", *logged, leader=when)
    assert (tmp_path / "checkpoints" / "previous.ckpt").is_file()
    assert summary(tmp_path)["state"] == "stopped" and summary(tmp_path)["reason"] == "trainer.max_time of 3 s"


@pytest.mark.slow
def test_two_processes_in_bf16_score_a_whole_folder(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 7)):
        for name in ("cat", "dog", "eel"):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    small = ("model=hybrid_tiny", "model.embed_dim=32", "model.depth=1", "model.stem.grid=4", "model.stem.depth=2")
    data = ("data=folder", f"data.root={tmp_path / 'pictures'}", "data.image_size=16", "data.num_workers=0")
    rest = ("steps=2", "batch_size=8", "accelerator=cpu", "accelerator.precision=bf16-mixed", "logger=none")
    by_command(tmp_path / "two", *small, *data, *rest)
    assert scored_images(tmp_path / "two") == summary(tmp_path / "two")["images"]["test"] == 21


SHAPES = {"BatchNorm1d": (6,), "BatchNorm2d": (6, 5, 4), "BatchNorm3d": (6, 3, 4, 2), "BatchNormAct2d": (6, 5, 4)}
SPLIT = [3, 2]  # images of each process


def normed(kind: str, **options: Any) -> nn.Module:
    """A norm with a gradient to its input and weights of its own."""
    if kind == "BatchNormAct2d":
        norm = pytest.importorskip("timm.layers").BatchNormAct2d(6, act_layer=nn.SiLU, **options)
    else:
        norm = getattr(nn, kind)(6, **options)
    if norm.affine:
        generator = torch.Generator().manual_seed(1)
        nn.init.normal_(norm.weight, generator=generator)
        nn.init.normal_(norm.bias, generator=generator)
    return norm


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: (kind, {}) for kind in SHAPES},
    "cumulative": ("BatchNorm2d", {"momentum": None}),
    "bare": ("BatchNorm2d", {"affine": False, "track_running_stats": False}),
}


def images_of(kind: str) -> tuple[Tensor, Tensor]:
    """The whole batch, and what its outputs are multiplied with in the loss."""
    generator = torch.Generator().manual_seed(0)
    x, factor = (torch.randn(sum(SPLIT), *SHAPES[kind], generator=generator) for _ in range(2))
    return 3 + 2 * x, factor


def step(net: nn.Module, x: Tensor, factor: Tensor) -> dict[str, Tensor]:
    """Two steps forward, one backward: output, gradient of the input and of the weights, statistics."""
    net(x)
    x = x.clone().requires_grad_()
    y = net(x)
    (y * factor).sum().backward()
    weights = {f"grad {name}": parameter.grad for name, parameter in net.named_parameters()}
    return {"output": y.detach(), "grad": x.grad, **weights, **dict(net.named_buffers())}  # type: ignore[dict-item]


def bf16_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))


def one_of_two(rank: int, folder: str, kinds: list[str]) -> None:
    """What each process computes of its share; saved for the test to look at."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for case in kinds:
        kind, options = CASES[case]
        x, factor = (whole.split(SPLIT)[rank] for whole in images_of(kind))
        found[case] = step(synchronised(normed(kind, **options)), x, factor)
    x, factor = (whole.split(SPLIT)[rank] for whole in images_of("BatchNorm2d"))
    with torch.autocast("cpu", torch.bfloat16):
        found["bf16"] = step(synchronised(bf16_net()), x, factor)
    found["summed"] = int(summed(SPLIT[rank], torch.device("cpu")))
    found["share"] = float(share(SPLIT[rank], torch.tensor(sum(SPLIT))))
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two processes computed, each with its share of the batch."""
    folder = tmp_path_factory.mktemp("halves")
    kinds = [case for case in CASES if case != "BatchNormAct2d" or importlib.util.find_spec("timm")]
    forked.run(one_of_two, str(folder), kinds, processes=2)
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def assert_shared(whole: dict[str, Tensor], halves: list[dict[str, Tensor]], tolerance: float) -> None:
    for name, value in whole.items():
        parts = [half[name] for half in halves]
        assert all(part.dtype == value.dtype for part in parts)
        if name in ("output", "grad"):
            found = torch.cat(parts)
        elif name.startswith("grad"):
            found = parts[0] + parts[1]
        else:  # statistics are the same everywhere
            assert torch.equal(parts[0], parts[1])
            found = parts[0]
        torch.testing.assert_close(found, value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("case", CASES)
def test_two_processes_normalise_as_one(case: str, halves: list[dict[str, Any]]) -> None:
    kind, options = CASES[case]
    whole = step(normed(kind, **options), *images_of(kind))
    assert_shared(whole, [half[case] for half in halves], 2e-5)


def test_statistics_of_bf16_are_fp32(halves: list[dict[str, Any]]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        whole = step(bf16_net(), *images_of("BatchNorm2d"))
    assert whole["output"].dtype == torch.bfloat16
    assert_shared(whole, [half["bf16"] for half in halves], 0.2)  # sums of bf16 products
    statistics = [{name: half["bf16"][name] for name in ("1.running_mean", "1.running_var")} for half in halves]
    assert_shared({name: whole[name] for name in statistics[0]}, statistics, 1e-5)


def test_images_are_counted_over_processes(halves: list[dict[str, Any]]) -> None:
    assert [half["summed"] for half in halves] == [5, 5]
    assert [half["share"] for half in halves] == pytest.approx([2 * 3 / 5, 2 * 2 / 5])
    assert summed(7, torch.device("cpu")) == 7 and share(7, 7) == 1


@pytest.mark.parametrize("cuda", [False, True])
def test_alone_it_is_batchnorm(cuda: bool) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    keys = list(plain.state_dict())
    x = torch.randn(2, 3, 5, 5)
    expected = plain(x)
    net = synchronised(plain, cuda=cuda)
    assert type(net[1]) is (nn.SyncBatchNorm if cuda else SyncBatchNorm)  # type: ignore[index]
    assert list(net.state_dict()) == keys
    torch.testing.assert_close(net(x), expected)


@pytest.mark.parametrize("cuda", [False, True])
def test_every_norm_of_an_efficientnet_is_shared(cuda: bool) -> None:
    net = pytest.importorskip("timm").create_model("efficientnet_b0", num_classes=3).eval()
    x = torch.randn(2, 3, 32, 32)
    expected = net(x)
    kinds = [type(module) for module in synchronised(net, cuda=cuda).modules() if isinstance(module, _BatchNorm)]
    assert kinds == [CudaSyncBatchNormAct if cuda else SyncBatchNormAct] * 49
    torch.testing.assert_close(net(x), expected)


def test_a_norm_that_cannot_be_shared_is_refused() -> None:
    class Ghost(nn.BatchNorm2d):
        pass

    with pytest.raises(ValueError, match=r"1 is a .*Ghost, whose statistics .*use trainer\.devices=1"):
        synchronised(nn.Sequential(nn.Identity(), Ghost(3)))
