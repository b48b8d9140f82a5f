"""The errors that a user can fix; their message is a sentence with the remedy. All others are faults of the package."""


class UserError(ValueError):
    """A setting, a file or a combination of them that cannot be."""


def out_of_memory(error: Exception) -> bool:
    """Whether memory was missing: torch has an error of its own for that on a GPU, and none on a CPU."""
    told = str(error).lower()
    cpu = isinstance(error, RuntimeError) and any(text in told for text in ("allocate memory", "not enough memory"))
    return cpu or "Memory" in type(error).__name__


def worker_died(error: Exception) -> bool:
    """Whether a process of torch's DataLoader was ended by the system, which an error within it is not."""
    told = str(error)
    ended = "killed by signal" in told or "exited unexpectedly" in told
    return isinstance(error, RuntimeError) and told.startswith("DataLoader worker") and ended


class MissingPackage(ModuleNotFoundError, UserError):
    """A package that is not installed, of one of the extras."""
