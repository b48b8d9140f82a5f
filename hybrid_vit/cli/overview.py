"""The progress of a sweep, read from its run directories -> a line on stderr and the table `overview.txt`."""

import math
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hybrid_vit.cli.jobs import Planned
from hybrid_vit.utils.durations import spoken
from hybrid_vit.utils.files import Lock, read_json, write_text
from hybrid_vit.utils.tables import text_table

STATES = ("done", "running", "waiting", "stopped", "failed")


@dataclass(frozen=True)
class Status:
    """The state of a job, the share of its steps that is done, and its summary."""

    state: str
    share: float
    summary: Mapping[str, Any]


def look(directory: Path) -> Status:
    """The status of a run directory; a run whose process has died is not running, it waits to be continued."""
    try:
        summary = read_json(directory / "summary.json")
    except ValueError:
        return Status("waiting", 0.0, {})
    state = summary.get("state")
    if state not in STATES or (state == "running" and Lock(directory / ".lock").free()):
        state = "waiting"
    try:
        last = (directory / "metrics.csv").read_text(encoding="utf-8").splitlines()[-1]
        share = float(last.split(",")[1]) / summary["steps"]
    except (OSError, LookupError, ValueError, TypeError, ArithmeticError):
        share = 0.0
    return Status(state, min(share, 1.0) if share >= 0 else 0.0, summary)


def stamp(job: Planned) -> tuple[int, int] | None:
    """Identifies the version of a job's summary; each version is a new file."""
    try:
        status = (job.directory / "summary.json").stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


class Overview(threading.Thread):
    """While a sweep runs: a line on stderr whenever a job changes its state, and a table in the file `overview.txt`."""

    def __init__(self, folder: Path, planned: Sequence[Planned], every: float = 2.0) -> None:
        super().__init__(daemon=True)
        self.folder, self.planned, self.every = folder, planned, every
        self.began = time.monotonic()
        self.stamps = [stamp(job) for job in planned]
        self.before = self.status()
        self.over = threading.Event()

    def status(self) -> list[Status]:
        """Of each job; one that failed or was stopped in an earlier command waits until its next try has begun."""
        found = []
        for job, before in zip(self.planned, self.stamps, strict=True):
            now = Status("failed", 0.0, {"reason": job.fault}) if job.fault else look(job.directory)
            old = not job.fault and now.state in ("failed", "stopped") and stamp(job) == before
            found.append(Status("waiting", now.share, now.summary) if old else now)
        return found

    def run(self) -> None:
        said: list[str] = []
        while not self.over.wait(self.every):
            now = self.status()
            self.write(now)
            states = [status.state for status in now]
            if states != said:
                tqdm.write(self.line(now), file=sys.stderr)
            said = states

    def write(self, now: Sequence[Status]) -> str:
        """Table and line, into the file too."""
        text = f"{self.table(now)}\n\n{self.line(now)}\n"
        write_text(self.folder / "overview.txt", text)
        return text

    def line(self, now: Sequence[Status]) -> str:
        """'stem_depth: 3 of 12 jobs done, 1 running, about 41 min left'"""
        count = {state: sum(status.state == state for status in now) for state in STATES}
        others = [f"{count[state]} {state}" for state in STATES[1:] if count[state]]
        gained = sum(a.share - b.share for a, b in zip(now, self.before, strict=True))
        left = sum(1 - status.share for status in now if status.state not in ("done", "failed"))
        if left and gained > 0:
            others.append(f"about {spoken(left / gained * (time.monotonic() - self.began))} left")
        return ", ".join([f"{self.folder.name}: {count['done']} of {len(now)} jobs done", *others])

    def table(self, now: Sequence[Status]) -> str:
        """One row per job: name, state, share of its steps, scores, seconds; or why it failed."""
        rows = [row(job.name, status) for job, status in zip(self.planned, now, strict=True)]
        return text_table(("job", "state", "steps", "val top-1", "test top-1", "seconds", ""), rows)

    def __enter__(self) -> "Overview":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.join()


def row(name: str, status: Status) -> list[str]:
    """The cells of a job in the table of a sweep."""
    summary = status.summary
    scores = summary["scores"] if isinstance(summary.get("scores"), dict) else {}
    shown = [f"{scores[key]:.2f}" if is_number(scores.get(key)) else "" for key in ("val_top1", "test_top1")]
    seconds = f"{summary['seconds']:.0f}" if is_number(summary.get("seconds")) else ""
    reason = summary.get("reason", "") if status.state == "failed" else ""
    if limited := summary.get("limited"):  # such a score is none
        shown, reason = ["", ""], reason or f"limited to {', '.join(f'{k}={v}' for k, v in limited.items())}: no score"
    return [name, status.state, f"{status.share:.0%}", *shown, seconds, reason]


def is_number(value: object) -> bool:
    """Whether a value from a file can be shown as a number."""
    return isinstance(value, int | float) and math.isfinite(value)
