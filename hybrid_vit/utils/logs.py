"""What the package logs, in a file."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def logged(path: Path, *, alone: bool = False) -> Iterator[None]:
    """What the package logs within goes to the end of a file, too; with `alone`, nowhere else."""
    logger, file = logging.getLogger("hybrid_vit"), logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] - %(message)s"))
    # Where nobody has set up logging, Python prints warnings alone, and not beside a file.
    elsewhere = logger.hasHandlers()
    handlers = [file] if alone or elsewhere else [file, logging.lastResort or logging.NullHandler()]
    before = logger.level, logger.propagate
    for handler in handlers:
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = elsewhere and not alone
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
        file.close()
        logger.setLevel(before[0])
        logger.propagate = before[1]
