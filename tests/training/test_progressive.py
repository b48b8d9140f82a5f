"""What changes within a training: the size of images, and which, and what is left of the augmentation."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from small_runs import run
from torchvision.transforms.v2 import functional as TF

from hybrid_vit.training.progressive import Progressive

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.mark.parametrize(("progress", "side"), [(0.0, 20), (0.149, 20), (0.15, 24), (0.49, 24), (0.5, 32), (1.0, 32)])
def test_images_grow_with_the_training(progress: float, side: int) -> None:
    images = torch.randn(2, 3, 32, 32)
    small = Progressive([20, 24], [0.15, 0.5])(images, progress)
    assert small.shape == (2, 3, side, side)
    torch.testing.assert_close(small, TF.resize(images, [side, side], antialias=True))


def test_the_mean_cost_weighs_each_stage_by_its_share() -> None:
    cost = {20: 1.0, 24: 2.0, 32: 4.0}.__getitem__
    assert Progressive([20, 24], [0.2, 0.5]).mean(cost, 32) == pytest.approx(0.2 * 1 + 0.3 * 2 + 0.5 * 4)
    assert Progressive([], []).mean(cost, 32) == 4


def test_without_stages_images_stay_as_they_are() -> None:
    images = torch.randn(2, 3, 32, 32)
    assert Progressive([], [])(images, 0.0) is images


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_mixing_ends_where_the_weak_augmentation_begins(tmp_path: Path, interval: str) -> None:
    class Targets(Callback):
        def __init__(self) -> None:
            self.mixed: list[bool] = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx: int) -> None:
            self.mixed.append(batch[1].ndim == 2)

    targets = Targets()
    run(tmp_path / "run", "augment=cct", "augment_until=0.6", f"optim.interval={interval}", callbacks=[targets])
    assert targets.mixed == [True] * 9 + [False] * 6


def test_the_teacher_sees_whole_images(tmp_path: Path) -> None:
    teacher, student = [], []
    short = ("steps=2", "optim.warmup_epochs=0")
    run(tmp_path / "teacher", *short)

    class Sizes(Callback):
        def on_train_start(self, trainer, pl_module) -> None:
            for net, sizes in ((pl_module.distill.teacher, teacher), (pl_module.net, student)):
                net.register_forward_pre_hook(lambda net, args, sizes=sizes: sizes.append(args[0].shape[-1]))

    small = ("progressive.sizes=[16]", "progressive.until=[0.5]")
    run(tmp_path / "run", f"distill.teacher={tmp_path / 'teacher'}", *short, *small, callbacks=[Sizes()])
    assert (teacher, student) == ([32, 32], [16, 32])


def test_the_picture_of_the_first_batch_has_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr("hybrid_vit.training.run.examples", lambda images, *rest: seen.append(images.shape[-1]))
    for settings in ([], ["progressive.sizes=[16]", "progressive.until=[0.5]"]):
        run(tmp_path / str(len(settings)), "steps=2", "optim.warmup_epochs=0", *settings)
    assert seen == [32, 16]
