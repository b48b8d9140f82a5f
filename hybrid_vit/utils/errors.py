"""The errors that a user can fix; their message is a sentence with the remedy. All others are faults of the package."""

import errno


class UserError(ValueError):
    """A setting, a file or a combination of them that cannot be."""


def out_of_memory(error: Exception) -> bool:
    """Whether memory was missing: torch has an error of its own for that on a GPU, and none on a CPU."""
    told = str(error).lower()
    cpu = isinstance(error, RuntimeError) and any(text in told for text in ("allocate memory", "not enough memory"))
    return cpu or "Memory" in type(error).__name__


def worker_died(error: Exception) -> bool:
    """Whether a process of torch's DataLoader died; an error that is raised in one does not count."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")


def sentence(error: Exception) -> str:
    """An error as a user wants to read it."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        place = error.filename2 or error.filename
        return f"the disk is full{f' ({place})' if place else ''}; free some space, then continue"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if out_of_memory(error):
        return f"out of memory; try a smaller batch_size or model ({first_lines(error)})"
    if worker_died(error):
        why = str(error).partition(". ")[0]
        return (
            f"a process that reads images was ended ({why}); use data.num_workers=0 or a smaller data.eval_batch_size, "
            "or give a container more shared memory (--shm-size)"
        )
    return str(error) or repr(error)


def first_lines(error: Exception, count: int = 1) -> str:
    """The first lines of a message, in one."""
    text = str(error) or str(error.__cause__)
    return " ".join(line.strip() for line in text.splitlines()[:count]).strip(". ")


class MissingPackage(ModuleNotFoundError, UserError):
    """A package that is not installed, of one of the extras."""
