"""The command `hybrid-vit-train` in this process, with a stand-in where training is."""

import sys
from collections.abc import Callable
from pathlib import Path

from hybrid_vit import train


class Train:
    """Stands where training is: notes what it was called with and does as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[dict, Path, bool]] = []
        self.effect: Callable[[dict], float] = lambda spec: 50.0

    def __call__(self, spec: dict, directory: Path, *, resume: bool = False) -> float:
        self.calls.append((spec, directory, resume))
        return self.effect(spec)

    def raises(self, error: BaseException) -> None:
        def effect(spec: dict) -> float:
            raise error

        self.effect = effect


def main(*arguments: str) -> int:
    """Exit code of the command."""
    sys.argv = ["train", *arguments]
    try:
        train.main()
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code
    return 0
