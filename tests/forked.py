"""Processes of tests, forked from one that has imported what is slow to import: each is ready at once."""

import multiprocessing
from collections.abc import Callable

from torch.multiprocessing.spawn import start_processes


def run(function: Callable[..., None], *arguments: object, processes: int = 1) -> None:
    """Call `function(number, *arguments)` in each of some processes, and wait for their ends.

    Raises:
        torch.multiprocessing.ProcessException: one of them has failed, or was killed.
    """
    multiprocessing.set_forkserver_preload(["hybrid_vit.training.run", "timm.layers"])
    start_processes(function, arguments, nprocs=processes, start_method="forkserver")
