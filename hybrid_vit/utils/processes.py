"""The processes of a run."""

import os


def is_helper() -> bool:
    """Whether this process helps with a run that another one leads, as Lightning, torchrun and Slurm say it."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return any(os.environ.get(name, "0") != "0" for name in ranks)
