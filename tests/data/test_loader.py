"""Loaders: every sample once, the same batches on any number of processes and after any interruption."""

import itertools
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from torch import Tensor

from hybrid_vit.augment import Draw, RandomHorizontalFlip, RandomResizedCrop, derive_seed
from hybrid_vit.data.loader import Batch, EpochSampler, ResidentLoader, StreamLoader
from hybrid_vit.data.pictures import PictureFolder

# Python 3.12+: torch forks its workers while its own threads run. They only decode pictures.
FORK = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def resident(n: int = 10, batch_size: int = 3, *, shuffle: bool = True) -> ResidentLoader:
    """A loader whose labels are the indices of the samples, as are the images' pixels."""
    index = torch.arange(n)
    images = index.to(torch.uint8)[:, None, None, None].expand(n, 3, 2, 2)
    return ResidentLoader(images, index, EpochSampler(n, batch_size, seed=1, shuffle=shuffle))


def same(a: Batch, b: Batch) -> bool:
    draws = [(batch.draw.seed, batch.draw.total, batch.draw.share) if batch.draw else None for batch in (a, b)]
    return a.images.equal(b.images) and a.labels.equal(b.labels) and draws[0] == draws[1]


def indices(sampler: EpochSampler) -> list[list[int]]:
    order = sampler.order()
    return [order[part].tolist() for part, _ in sampler.shares()]


# The sampler


def test_alternating_flips_turn_each_image_in_every_second_epoch() -> None:
    def turned(epoch: int, rank: int = 0, world_size: int = 1, led: bool = False) -> dict[int, bool]:
        sampler = EpochSampler(1000, 64, seed=3, shuffle=True, rank=rank, world_size=world_size, led=led)
        sampler.set_epoch(epoch)
        order, flip = sampler.order(), RandomHorizontalFlip(alternate=True)
        found = {}
        for part, draw in sampler.shares():
            images = torch.arange(2, dtype=torch.uint8).expand(draw.size, 3, 1, 2)
            found |= dict(zip(order[part].tolist(), flip(images, draw)[:, 0, 0, 0].bool().tolist(), strict=True))
        return found

    first, second, third = map(turned, range(3))
    assert len(first) == 1000 and 400 < sum(first.values()) < 600
    assert all(second[i] != first[i] == third[i] for i in range(1000))
    assert first == turned(0, 0, 2) | turned(0, 1, 2) == turned(0, 0, 2, led=True) | turned(0, 1, 2, led=True)
    with pytest.raises(ValueError, match=r"flip\.alternate=true is for the batches of a training"):
        RandomHorizontalFlip(alternate=True)(torch.zeros(2, 3, 4, 4), Draw(0, 2))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("n", "batch_size"), [(10, 3), (12, 4), (13, 4), (14, 4), (7, 7), (5, 8), (3, 3), (101, 10)])
def test_processes_together_take_the_global_batches(n: int, batch_size: int, shuffle: bool) -> None:
    alone = indices(EpochSampler(n, batch_size, seed=5, shuffle=shuffle))
    assert [len(batch) for batch in alone] == [batch_size] * (n // batch_size) + [n % batch_size] * (n % batch_size > 0)
    assert sorted(itertools.chain(*alone)) == list(range(n))
    for world_size in (1, 2, 3):
        samplers = [
            EpochSampler(n, batch_size, seed=5, shuffle=shuffle, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        shares = [indices(sampler) for sampler in samplers]
        assert {len(share) for share in shares} == {len(sampler) for sampler in samplers}  # the same number of steps
        steps = list(zip(*shares, strict=True))
        together = [list(itertools.chain(*step)) for step in steps]
        assert list(itertools.chain(*together)) == list(itertools.chain(*alone))
        for step in steps:
            lengths = [len(share) for share in step]
            assert min(lengths) >= 1 and max(lengths) - min(lengths) <= 1
        if n % batch_size == 0 or n % batch_size >= world_size:
            assert together == alone
        else:  # too few are left for one each: they are in the batch before
            assert together == [*alone[:-2], alone[-2] + alone[-1]]


def test_drop_last_leaves_only_whole_batches() -> None:
    sampler = EpochSampler(11, 4, seed=5, shuffle=True, drop_last=True)
    assert len(sampler) == 2
    assert indices(sampler) == indices(EpochSampler(11, 4, seed=5, shuffle=True))[:2]


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochSampler(50, 7, seed=seed, shuffle=True)
        sampler.set_epoch(epoch)
        return sampler.order().tolist()

    assert order(1, 3) == order(1, 3)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert EpochSampler(5, 2, seed=1, shuffle=False).order().tolist() == [0, 1, 2, 3, 4]


def test_draws_name_seed_epoch_step_and_share() -> None:
    sampler = EpochSampler(10, 4, seed=9, shuffle=True, rank=1, world_size=2)
    sampler.set_epoch(6)
    draws = [draw for _, draw in sampler.shares()]
    assert all(draw is not None for draw in draws)
    assert [draw.seed for draw in draws if draw] == [derive_seed(9, 6, step) for step in range(3)]
    assert [(draw.total, draw.share) for draw in draws if draw] == [
        (4, slice(2, 4)),
        (4, slice(2, 4)),
        (2, slice(1, 2)),
    ]
    assert all(draw is None for _, draw in EpochSampler(10, 4, seed=9, shuffle=False).shares())


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_sample_before_a_share_leads_it(world_size: int) -> None:
    whole = [batch.labels.tolist() for batch in resident(11, 4)]
    for rank in range(world_size):
        sampler = EpochSampler(11, 4, seed=1, shuffle=True, rank=rank, world_size=world_size, led=True)
        alone = EpochSampler(11, 4, seed=1, shuffle=True, rank=rank, world_size=world_size)
        loader = ResidentLoader(torch.zeros(11, 3, 1, 1, dtype=torch.uint8), torch.arange(11), sampler)
        for batch, (part, _), together in zip(loader, alone.shares(), whole, strict=True):
            share = alone.order()[part].tolist()
            before = [together[together.index(share[0]) - 1]] if world_size > 1 else []
            assert batch.labels.tolist() == before + share
            assert batch.draw is not None and batch.draw.led == (world_size > 1)
            assert batch.draw.size == len(batch.labels)
    assert not EpochSampler(10, 4, seed=1, shuffle=False, world_size=2, led=True).led


def test_too_small_batches_are_errors() -> None:
    with pytest.raises(ValueError) as caught:
        EpochSampler(10, 1, seed=0, shuffle=True, world_size=2)
    assert str(caught.value) == ("batch_size=1 gives nothing to some of 2 processes; use at least 2")
    for n, drop_last, world_size in (1, False, 2), (3, True, 1), (0, False, 1):
        with pytest.raises(ValueError) as caught:
            EpochSampler(n, 4, seed=0, shuffle=True, world_size=world_size, drop_last=drop_last)
        assert str(caught.value) == (
            f"{n} images make no batch of batch_size=4 for {world_size} processes; "
            "use a smaller batch_size, fewer processes or data.drop_last=false"
        )


# The resident loader


def test_resident_batches_hold_the_samples_of_the_sampler() -> None:
    loader = resident()
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        batches = list(loader)
        assert [batch.labels.tolist() for batch in batches] == indices(loader.sampler)
        assert len(batches) == len(loader) == 4
        for batch in batches:
            assert batch.images.dtype == torch.uint8 and batch.images.shape[1:] == (3, 2, 2)
            assert batch.images[:, 1, 1, 0].tolist() == batch.labels.tolist()


def test_loading_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    list(resident())
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize("step", [0, 1, 3, 4])
def test_state_continues_the_epoch_and_only_that_one(step: int) -> None:
    first = resident()
    first.sampler.set_epoch(2)
    whole = list(first)
    iterator = iter(first)
    for _ in range(step):
        next(iterator)
    if step:
        assert first.state_dict() == {"epoch": 2, "step": step}

    second = resident()
    second.load_state_dict({"epoch": 2, "step": step})
    assert second.state_dict() == {"epoch": 2, "step": step}
    iter(second)  # asking for an iterator, as Lightning does, uses nothing up
    second.sampler.set_epoch(2)
    rest = list(second)
    assert len(rest) == 4 - step and all(map(same, rest, whole[step:]))
    assert len(second) == 4
    again = list(second)
    assert len(again) == 4 and all(map(same, again, whole))

    third = resident()
    third.load_state_dict({"epoch": 1, "step": step})
    third.sampler.set_epoch(2)
    assert len(list(third)) == 4


# Through Lightning, interrupted after every step


class Recorder(L.LightningModule):
    """Notes what it is trained on, and saves checkpoints at its hooks into `folder`, if there is one."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.steps: list[tuple[int, int, int, list[int], int]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        assert batch.draw is not None
        seen = (self.current_epoch, batch_idx, self.global_step, batch.labels.tolist(), batch.draw.seed)
        self.steps.append(seen)
        return self.weight * batch.labels.float().mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        assert batch.draw is None

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        self.save("on_train_batch_end")

    def on_validation_end(self) -> None:
        self.save("on_validation_end")

    def on_train_epoch_end(self) -> None:
        self.save("on_train_epoch_end")

    def save(self, hook: str) -> None:
        if self.folder and self.global_step and not (path := self.folder / f"{hook}_{self.global_step}").exists():
            self.trainer.save_checkpoint(path)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    module: Recorder,
    *,
    checkpoint: Path | None = None,
    max_epochs: int = 3,
    max_steps: int = -1,
    limit_train_batches: int | None = None,
) -> Recorder:
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        max_steps=max_steps,
        limit_train_batches=limit_train_batches,
        num_sanity_val_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    validation = [resident(shuffle=False)]
    trainer.fit(module, resident(), validation, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return module


@pytest.mark.parametrize("limits", [{}, {"limit_train_batches": 3}, {"max_steps": 10, "max_epochs": -1}])
def test_resumed_training_sees_what_the_uninterrupted_one_would_have(tmp_path: Path, limits: dict[str, Any]) -> None:
    whole, saving = fit(Recorder(), **limits), fit(Recorder(tmp_path), **limits)
    assert saving.steps == whole.steps and saving.weight.equal(whole.weight)
    per_epoch = limits.get("limit_train_batches", 4)
    assert [step[:3] for step in whole.steps[:5]] == [(i // per_epoch, i % per_epoch, i) for i in range(5)]
    hooks = [("on_train_batch_end", at) for at in range(1, len(whole.steps))]
    hooks += [("on_validation_end", at) for at in (per_epoch, 2 * per_epoch)]
    if "max_steps" not in limits:  # Lightning 2.6.6 miscounts the epochs of one saved at an epoch's end under max_steps
        hooks += [("on_train_epoch_end", at) for at in (per_epoch, 2 * per_epoch)]
    for hook, at in hooks:
        resumed = fit(Recorder(), checkpoint=tmp_path / f"{hook}_{at}", **limits)
        assert resumed.steps == whole.steps[at:], (hook, at)
        assert resumed.weight.equal(whole.weight)


# The stream


def stream(
    pictures: PictureFolder,
    *,
    shuffle: bool = True,
    rank: int = 0,
    world_size: int = 1,
    num_workers: int = 2,
    crop: RandomResizedCrop | None = None,
) -> StreamLoader:
    sampler = EpochSampler(len(pictures), 8, seed=1, shuffle=shuffle, rank=rank, world_size=world_size)
    return StreamLoader(pictures, sampler, num_workers, pin_memory=False, crop=crop)


@FORK
def test_stream_gives_what_is_resident_on_any_number_of_processes_and_workers(picture_root: Path) -> None:
    pictures = PictureFolder(picture_root, 16)
    images = torch.stack([pictures[i][0] for i in range(len(pictures))])
    workers = stream(pictures)
    split = [stream(pictures, rank=rank, world_size=2, num_workers=0) for rank in range(2)]
    for epoch in (0, 1):
        memory = ResidentLoader(images, pictures.labels, EpochSampler(45, 8, seed=1, shuffle=True))
        for loader in (memory, workers, *split):
            loader.sampler.set_epoch(epoch)
        expected = list(memory)
        got = list(workers)
        assert len(got) == len(workers) == len(expected) == 6
        assert all(map(same, got, expected))
        for batch, *parts in zip(expected, *split, strict=True):
            assert torch.cat([part.images for part in parts]).equal(batch.images)
            assert torch.cat([part.labels for part in parts]).equal(batch.labels)
    workers.close()


@FORK
def test_crops_are_those_of_seed_epoch_and_sample_on_any_number_of_processes_and_workers(picture_root: Path) -> None:
    pictures, crop = PictureFolder(picture_root, 16), RandomResizedCrop()
    workers = stream(pictures, crop=crop)
    split = [stream(pictures, rank=rank, world_size=2, num_workers=0, crop=crop) for rank in range(2)]
    epochs = []
    for epoch in (0, 1):
        for loader in (workers, *split):
            loader.sampler.set_epoch(epoch)
        order = workers.sampler.order().tolist()
        expected = torch.stack([pictures.cropped(i, crop, derive_seed(1, epoch, i, 0))[0] for i in order])
        assert torch.cat([batch.images for batch in workers]).equal(expected)
        parts = [torch.cat([part.images for part in step]) for step in zip(*split, strict=True)]
        assert torch.cat(parts).equal(expected)
        epochs.append(expected[torch.tensor(order).argsort()])
    workers.close()
    assert not epochs[0].equal(epochs[1])


@FORK
@pytest.mark.parametrize("crop", [None, RandomResizedCrop()])
def test_stream_continues_where_it_was_given_not_where_workers_have_read_ahead(
    picture_root: Path, crop: RandomResizedCrop | None
) -> None:
    loader = stream(PictureFolder(picture_root, 16), crop=crop)
    whole = list(loader)
    iterator = iter(loader)
    next(iterator), next(iterator)
    state = loader.state_dict()
    assert state == {"epoch": 0, "step": 2}
    del iterator
    loader.load_state_dict(state)  # into the same workers, that were left in the middle
    rest = list(loader)
    assert len(rest) == 4 and all(map(same, rest, whole[2:]))
    assert all(map(same, loader, whole))
    loader.close()
    assert all(map(same, loader, whole))
    loader.close()


@FORK
def test_stream_keeps_its_workers_until_closed_and_leaves_the_global_generator_alone(picture_root: Path) -> None:
    class WhoReads(PictureFolder):
        def __getitem__(self, index: int) -> tuple[Tensor, int]:
            return super().__getitem__(index)[0], os.getpid()

    loader = stream(WhoReads(picture_root, 16))
    before = torch.get_rng_state()
    first, second = ({int(pid) for batch in loader for pid in batch.labels} for _ in range(2))
    assert torch.get_rng_state().equal(before)
    assert first == second and len(first) == 2 and os.getpid() not in first
    loader.close()
    assert not first & {int(pid) for batch in loader for pid in batch.labels}
    loader.close()


@FORK
@pytest.mark.parametrize("num_workers", [0, 2])
def test_unreadable_picture_is_one_sentence_from_a_worker_too(picture_root: Path, num_workers: int) -> None:
    pictures = PictureFolder(picture_root, 16)
    pictures.paths[30] = Path(__file__)
    with pytest.raises(ValueError) as caught:
        list(stream(pictures, num_workers=num_workers))
    assert str(caught.value).startswith(f"{__file__} cannot be read as an image (")
    assert "\n" not in str(caught.value)
