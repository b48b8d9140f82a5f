"""Where a figure comes from: versions, commit, system, memory."""

import functools
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from hybrid_vit.utils.paths import PACKAGE

PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics")


def provenance() -> dict[str, Any]:
    """Where a result comes from: versions, commit (with "+" if files were changed), system."""
    versions = {name: version(name) for name in PACKAGES}
    versions["python"] = platform.python_version()
    return {"commit": own_commit(), "versions": versions, "system": platform.platform()}


@functools.cache
def own_commit() -> str | None:
    """The commit of this code, as it was when it was first asked for: later changes are not what is running."""
    return find_commit(PACKAGE.parent)


def find_commit(checkout: Path) -> str | None:
    """The commit of a repository with its root there, "+" behind it if files were changed; None without one or git."""
    if not (checkout / ".git").exists():  # an installed package may lie below another repository
        return None
    git = ["git", "-C", str(checkout), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or None
    except OSError:
        return None


def reset_peak_memory() -> None:
    """Let `peak_memory_mib` begin anew, for the next of several runs of one process; where the system allows it."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_mib(device: torch.device) -> int:
    """The most memory held so far: of a CUDA device's allocator, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    status = Path("/proc/self/status")  # without this line in some sandboxes
    lines = status.read_text().splitlines() if status.exists() else []
    for line in (line for line in lines if line.startswith("VmHWM")):
        return int(line.split()[1]) >> 10
    # counts what the process that started this one held, too
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10
