"""The turns of a benchmark as they are measured: the log of timing.py -> lines on stderr and turns.csv."""

import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hybrid_vit.benchmarks.timing import log
from hybrid_vit.utils.files import write_csv

OFTEN = 1.0  # seconds between two writings


class Turns(logging.Handler):
    """Says each turn of a case on stderr, and keeps it in turns.csv, so that a benchmark may be stopped at any time."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.path = directory / "turns.csv"
        self.suite = ""
        self.rows: list[dict[str, Any]] = []
        self.written = -math.inf

    @contextmanager
    def kept(self, suite: str) -> Iterator[None]:
        """Within, what is measured counts for `suite`."""
        self.suite = suite
        level, log.propagate = log.level, False
        log.setLevel(logging.INFO)
        log.addHandler(self)
        try:
            yield
        finally:
            log.removeHandler(self)
            log.setLevel(level)
            log.propagate = True
            self.write()

    def emit(self, record: logging.LogRecord) -> None:
        if vars(record)["told"]:
            print(f"  {self.suite}: {record.getMessage()}", file=sys.stderr, flush=True)
        self.rows.append({"suite": self.suite, **vars(record)["turn"]})
        if time.monotonic() - self.written > OFTEN:
            self.write()

    def write(self) -> None:
        """Write turns.csv."""
        if self.rows:
            write_csv(self.path, self.rows)
        self.written = time.monotonic()
