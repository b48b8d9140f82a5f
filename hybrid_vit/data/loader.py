"""Batches: images and a sampler -> (images, labels, the batch's random numbers), step by step, from any step on.

What a step holds is a function of (seed, epoch, step) and not of the number of processes: the sampler cuts the epoch's
order into global batches and each process takes its contiguous share of every one. So a loader that starts in the
middle of an epoch, or on another number of processes, gives the batches of the run that was never interrupted.
"""

import signal
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_convert

from hybrid_vit.augment import Draw, RandomResizedCrop, derive_seed
from hybrid_vit.data.pictures import PictureFolder
from hybrid_vit.utils.errors import UserError


class Batch(NamedTuple):
    """One process's share of a global batch.

    Attributes:
        images: (B, 3, H, W) uint8.
        labels: (B,) int64.
        draw: the random numbers of its augmentation; None in evaluation. Where it is `led`, the first sample is the
            one before the share in the global batch, to be mixed with.
    """

    images: Tensor
    labels: Tensor
    draw: Draw | None


class EpochSampler:
    """Which samples each step of an epoch takes, and which of them this process takes.

    Over all processes every sample is taken exactly once per epoch, and every process makes the same number of steps.
    The last global batch may be smaller than the others; its shares then differ by at most one sample. If it had fewer
    samples than there are processes, they go into the batch before it.

    Args:
        n: number of samples.
        batch_size: of the global batch, over all processes.
        seed: of the run.
        shuffle: True in training: another order each epoch, and a `Draw` for every step.
        rank: index of this process.
        world_size: number of processes.
        drop_last: leave out a last batch that is smaller than the others.
        led: put the sample before a share, in the global batch, in front of it; mixing needs it.

    Raises:
        UserError: if a batch cannot give every process at least one sample.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        led: bool = False,
        setting: str = "batch_size",
    ) -> None:
        if batch_size < world_size:
            raise UserError(
                f"{setting}={batch_size} gives nothing to some of {world_size} processes; use at least {world_size}"
            )
        if n < (batch_size if drop_last else world_size):
            raise UserError(
                f"{n} images make no batch of {setting}={batch_size} for {world_size} processes; "
                f"use a smaller {setting}, fewer processes or data.drop_last=false"
            )
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.led = led and shuffle and world_size > 1  # a single process holds all that it mixes
        self.epoch = 0
        self._n = n
        self._edges = list(range(0, n + 1, batch_size))  # where global batches begin and end in the epoch's order
        rest = n - self._edges[-1]
        if rest and not drop_last:
            if rest < world_size:
                self._edges.pop()
            self._edges.append(n)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that is sampled next; Lightning calls it before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Steps of an epoch."""
        return len(self._edges) - 1

    def order(self) -> Tensor:
        """(n,) int64: the order of all samples in this epoch."""
        if not self.shuffle:
            return torch.arange(self._n)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.epoch))
        return torch.randperm(self._n, generator=generator)

    def turned(self) -> Tensor:
        """(n,) bool: whether each sample is mirrored in this epoch, if it is so in every second one."""
        generator = torch.Generator().manual_seed(derive_seed(self.seed))
        return (torch.rand(self._n, generator=generator) < 0.5) ^ bool(self.epoch % 2)

    def sample_seed(self, index: int) -> int:
        """Of what a sample draws by itself in this epoch; other than the seed of any batch."""
        return derive_seed(self.seed, self.epoch, index, 0)

    def shares(self, start: int = 0) -> Iterator[tuple[slice | Tensor, Draw | None]]:
        """Per step from `start` on: the part of `order` that this process takes, and its random numbers."""
        turned = self.turned()[self.order()] if self.shuffle else None
        for step, (begin, end) in enumerate(list(pairwise(self._edges))[start:], start):
            total = end - begin
            share = slice(total * self.rank // self.world_size, total * (self.rank + 1) // self.world_size)
            seed = derive_seed(self.seed, self.epoch, step)
            rows: slice | Tensor = torch.arange(share.start - 1, share.stop) % total if self.led else share
            draw = None if turned is None else Draw(seed, total, rows, led=self.led, turned=turned[begin:end])
            yield slice(begin + share.start, begin + share.stop) if isinstance(rows, slice) else begin + rows, draw


class Loader(ABC):
    """Iterates over the batches of an epoch, and can be put in the middle of one (Lightning's stateful protocol).

    After `load_state_dict` the next iteration goes on where the state was taken, if it is still of that epoch; all
    others begin at step 0. The start is settled when the first batch is taken, not by `iter()`: Lightning calls that
    several times, and before it has told the sampler the epoch.
    """

    batch_sampler = None  # Lightning asks everything that has a sampler for this one too

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler
        self._position = {"epoch": 0, "step": 0}
        self._resume = False

    def __len__(self) -> int:
        """Steps of a whole epoch, also when the next one begins in the middle."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        epoch = self.sampler.epoch
        start = self._position["step"] if self._resume and self._position["epoch"] == epoch else 0
        self._resume = False
        self._position = {"epoch": epoch, "step": start}
        for step, batch in enumerate(self._batches(start), start):
            self._position = {"epoch": epoch, "step": step + 1}
            yield batch

    def state_dict(self) -> dict[str, int]:
        """``{"epoch": e, "step": k}``: k batches of epoch e have been given."""
        return dict(self._position)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the next iteration go on from `state_dict`."""
        self._position = {"epoch": state_dict["epoch"], "step": state_dict["step"]}
        self._resume = True

    @abstractmethod
    def _batches(self, start: int) -> Iterator[Batch]:
        """The batches of the sampler's epoch from step `start` on."""


class ResidentLoader(Loader):
    """Gathers batches out of tensors that lie on the device; no workers and no copies between host and device.

    Args:
        images: (N, 3, H, W) uint8.
        labels: (N,) int64.
        sampler: of those N.
    """

    def __init__(self, images: Tensor, labels: Tensor, sampler: EpochSampler) -> None:
        super().__init__(sampler)
        self.images, self.labels = images, labels

    def _batches(self, start: int) -> Iterator[Batch]:
        order = self.sampler.order().to(self.images.device)
        for part, draw in self.sampler.shares(start):
            index = order[part]
            yield Batch(self.images.index_select(0, index), self.labels.index_select(0, index), draw)


class StreamLoader(Loader):
    """Reads batches from picture files in worker processes; they lie on the host, for the trainer to move.

    Args:
        pictures: N pictures.
        sampler: of those N.
        num_workers: processes that decode, kept from epoch to epoch; 0 decodes in this one.
        pin_memory: put the batches where a CUDA device fetches them fastest.
        crop: made of the whole picture, instead of the centre; drawn by (seed, epoch, sample).

    Raises:
        UserError: while iterating, for a picture that cannot be read.
    """

    def __init__(
        self,
        pictures: PictureFolder,
        sampler: EpochSampler,
        num_workers: int,
        pin_memory: bool,
        crop: RandomResizedCrop | None = None,
    ) -> None:
        super().__init__(sampler)
        self._batch_reader = _WholeBatches(pictures, crop)
        self._num_workers = num_workers
        self._pin_memory = pin_memory
        self._rest = _RestOfEpoch(sampler)
        self._workers: DataLoader[tuple[Tensor, Tensor] | UserError] | None = None

    def close(self) -> None:
        """End the worker processes; iterating again starts new ones."""
        iterator = getattr(self._workers, "_iterator", None)
        if self._num_workers and iterator is not None:  # as Lightning does; left to the collector, each may take 5 s
            iterator._shutdown_workers()
        self._workers = None

    def _batches(self, start: int) -> Iterator[Batch]:
        if self._workers is None:
            self._workers = DataLoader(
                self._batch_reader,
                batch_sampler=self._rest,
                num_workers=self._num_workers,
                collate_fn=default_convert,
                worker_init_fn=_ignore_interrupt,
                pin_memory=self._pin_memory,
                persistent_workers=self._num_workers > 0,
                generator=torch.Generator(),  # its own: an epoch must not draw from the one that dropout draws from
            )
        self._rest.start = start
        for read, (_, draw) in zip(self._workers, self.sampler.shares(start), strict=True):
            if isinstance(read, UserError):
                self.close()
                raise read
            images, labels = read
            yield Batch(images, labels, draw)


class _RestOfEpoch:
    """The sampler's indices from a step on, each with a seed, as the lists that torch's DataLoader asks for."""

    def __init__(self, sampler: EpochSampler) -> None:
        self.sampler = sampler
        self.start = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = self.sampler.order()
        for part, _ in self.sampler.shares(self.start):
            yield [(i, self.sampler.sample_seed(i)) for i in order[part].tolist()]


class _WholeBatches(Dataset[tuple[Tensor, Tensor] | UserError]):
    """Reads a batch at once; returns the error of an unreadable picture, which a worker would hide in a traceback."""

    def __init__(self, pictures: PictureFolder, crop: RandomResizedCrop | None) -> None:
        self.pictures, self.crop = pictures, crop

    def __getitems__(self, samples: list[tuple[int, int]]) -> tuple[Tensor, Tensor] | UserError:
        try:
            read = (self.pictures.cropped(i, self.crop, seed) if self.crop else self.pictures[i] for i, seed in samples)
            images, labels = zip(*read, strict=True)
        except UserError as error:
            return error
        return torch.stack(images), torch.tensor(labels)


def _ignore_interrupt(worker: int) -> None:
    """Ctrl-C reaches the workers as well; the main process ends them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
