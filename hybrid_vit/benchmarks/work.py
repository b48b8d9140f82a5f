"""The pieces that the suites time: a training step, with what belongs to it. Each ends when its result is there."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from hybrid_vit import build_model
from hybrid_vit.benchmarks.peers import peer
from hybrid_vit.benchmarks.timing import Turn
from hybrid_vit.fast.accelerator import Choice, choose, keep_memory
from hybrid_vit.training.optim import adamw
from hybrid_vit.utils.provenance import provenance

CLIP = 1.0
SHORTEST = 0.3  # seconds of a turn: what is shorter is repeated


def environment(accelerator: dict[str, Any], rounds: int) -> dict[str, Any]:
    """What the figures of a benchmark depend on."""
    choice = choose(**accelerator)
    return {
        "device": choice.device_name,
        "threads": torch.get_num_threads(),
        "choice": choice.reason,
        "rounds": rounds,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        **provenance(),
    }


class Step:
    """A training step without loader, averaging or logging: forward, backward, clipping, optimizer.

    Args:
        net: (B, 3, H, W) -> (B, num_classes), on its device.
        optimizer: of its parameters.
        bf16: compute under autocast.
    """

    def __init__(self, net: nn.Module, optimizer: Optimizer, *, bf16: bool = False) -> None:
        self.net, self.optimizer, self.bf16 = net.train(), optimizer, bf16

    def __call__(self, images: Tensor, targets: Tensor) -> float:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            answers = self.net(images)
            loss = F.cross_entropy(answers.mean(1) if answers.ndim == 3 else answers, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def set_up(net: nn.Module, accelerator: dict[str, Any]) -> Choice:
    """Set `net` up for this machine as `hybrid_vit.train` does; what was chosen."""
    keep_memory()
    choice = choose(**accelerator)
    choice.tune(net.to(choice.device))
    if choice.compile:
        net.compile(dynamic=False)
    return choice


def our_step(turn: Turn, model: str, accelerator: dict[str, Any], batch_size: int) -> None:
    """Case: our training step of `model`."""
    train_steps(turn, build_model(model), accelerator, batch_size)


def train_steps(turn: Turn, net: nn.Module, accelerator: dict[str, Any], batch_size: int, side: int = 32) -> None:
    """Our training step of `net`, for ever."""
    choice = set_up(net, accelerator)
    step = Step(net, adamw(net, lr=4e-4, weight_decay=0.05), bf16=choice.bf16)
    batch = noise(batch_size, choice.device, side)
    repeat(turn, lambda: step(*batch))


def peer_step(turn: Turn, name: str, model: str, accelerator: dict[str, Any], batch_size: int) -> None:
    """Case: the training step of a peer of the same size, eager and in fp32, on the same device."""
    device = choose(**accelerator).device
    net = peer(name, model).to(device)
    step, batch = Step(net, AdamW(net.parameters(), lr=4e-4)), noise(batch_size, device)
    repeat(turn, lambda: step(*batch))


def repeat(turn: Turn, work: Callable[[], object], times: int | None = None) -> None:
    """Warm up, then work `times` in a turn, or as often as fills the shortest one, for ever."""
    work()
    began = time.perf_counter()
    work()
    times = times or math.ceil(SHORTEST / (time.perf_counter() - began))
    while True:
        turn(times)
        for _ in range(times):
            work()


def noise(batch_size: int, device: torch.device, side: int = 32) -> tuple[Tensor, Tensor]:
    """(B, 3, side, side) images and (B,) labels; what a step costs does not depend on what is on the pictures."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch_size, 3, side, side, generator=generator)
    return images.to(device), torch.randint(100, (batch_size,), generator=generator).to(device)
