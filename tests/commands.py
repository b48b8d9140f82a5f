"""The command `hybrid-vit-train` in this process, with a stand-in where training is."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from hybrid_vit import train
from hybrid_vit.config import schema
from hybrid_vit.training.callbacks import PARTS


class Train:
    """Stands where training is: notes what it was called with and does as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict, Path, bool]] = []
        self.effect: Callable[[dict], float] = lambda spec: 50.0

    def __call__(
        self,
        config: schema.Train,
        directory: Path,
        *,
        checkpoint: Path | None = None,
        started: Callable[[], None] = lambda: None,
    ) -> float:
        spec = asdict(config)
        started()
        self.calls.append((spec, directory, checkpoint is not None))
        return self.effect(spec)

    def raises(self, error: BaseException) -> None:
        def effect(spec: dict) -> float:
            raise error

        self.effect = effect


def write_checkpoint(path: Path) -> None:
    """A file that a run can continue from, as far as can be seen without a training."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict.fromkeys(PARTS, 0), path)


def main(*arguments: str) -> int:
    """Exit code of the command."""
    sys.argv = ["train", *arguments]
    try:
        train.main()
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code
    return 0
