"""The errors that a user can fix; their message is a sentence with the remedy. All others are faults of the package."""


class UserError(ValueError):
    """A setting, a file or a combination of them that cannot be."""


def out_of_memory(error: Exception) -> bool:
    """Whether memory was missing: torch has an error of its own for that on a GPU, and none on a CPU."""
    told = str(error).lower()
    cpu = isinstance(error, RuntimeError) and any(text in told for text in ("allocate memory", "not enough memory"))
    return cpu or "Memory" in type(error).__name__


class MissingPackage(ModuleNotFoundError, UserError):
    """A package that is not installed, of one of the extras."""
