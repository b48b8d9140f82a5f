"""Many runs: parameters and arms -> jobs -> a folder with a run directory a job, in which each job is done once.

Hydra's own sweeper knows products only, and does everything again. Here a job whose run is done is left out, one that
was stopped goes on, one that fails is recorded while the others go on. Hydra's launchers do the work: one after the
other, several at a time (`hydra/launcher=joblib`), on a cluster (ray, submitit_slurm).
"""

import hashlib
import itertools
import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext, RunMode, TaskFunction
from tqdm import tqdm

from hybrid_vit.config import CONF, parsed, quoted, resolving
from hybrid_vit.durations import spoken
from hybrid_vit.utils.files import write_text

LONGEST_NAME = 150  # of a directory, in characters; file systems allow 255
STATES = ("done", "running", "waiting", "stopped", "failed")


@dataclass(frozen=True)
class Planned:
    """A job of a sweep: what it is called in it, its settings, and its run directory."""

    name: str
    settings: list[str]
    directory: Path


@dataclass(frozen=True)
class Status:
    """What a job's directory tells: its state, the share of its steps that is done, and its summary."""

    state: str
    share: float
    summary: Mapping[str, Any]


class JobFailed(Exception):
    """A job of a sweep failed; the message is the sentence for the user. It can be sent from process to process."""


def jobs(
    settings: Sequence[str],
    params: Mapping[str, str] | None = None,
    arms: Mapping[str, Sequence[str]] | None = None,
    only: Sequence[str] | None = None,
) -> Iterator[tuple[str, list[str]]]:
    """The name and the settings of each job: for all combinations of values (the first varying slowest) each arm.

    Args:
        settings: of the command line, some perhaps with several values; they replace `params` of the same key.
        params: key -> values; they are part of the name, as all settings with several values are.
        arms: name -> settings.
        only: these of the arms.

    Raises:
        ValueError: an interval, which has no end of values, or an arm that there is not.
    """
    params, arms = params or {}, arms or {}
    for arm in only or ():
        if arm not in arms:
            raise ValueError(f"hydra.sweeper.only: {arm} is not one of {', '.join(arms) or 'them: there are no arms'}")
    lists: dict[str, list[str]] = {}
    named = {*params}
    for override in map(parsed, [*(f"{key}={values}" for key, values in params.items()), *settings]):
        key = override.get_key_element()
        if override.is_interval_sweep():
            raise ValueError(f"{override.input_line} has no end; write {key}=A,B,C or {key}=range(FROM,TO,STEP)")
        lists[key] = [str(override.input_line)]
        if override.is_sweep_override():
            named.add(key)
            lists[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
    for values in itertools.product(*lists.values()):
        said = [value for key, value in zip(lists, values, strict=True) if key in named]
        for arm in only or arms or ("",):
            own = [f"name={quoted(arm)}"] if arm and "name" not in lists else []
            yield file_name(",".join(filter(None, [arm, *said]))), [*values, *arms.get(arm, ()), *own]


def file_name(text: str) -> str:
    """A name of a directory that says `text`; what it cannot say ends in a number of its own."""
    name = re.sub(r"[^\w.,=@+-]+", "_", text)[:LONGEST_NAME] or "job"
    return name if name == text or not text else f"{name}-{hashlib.sha1(text.encode()).hexdigest()[:8]}"


def look(directory: Path, since: float = 0.0) -> Status:
    """What a run directory tells; what was "running" but has not been touched `since` then waits to go on."""
    try:
        file = directory / "summary.json"
        summary, touched = json.loads(file.read_text(encoding="utf-8")), file.stat().st_mtime
    except (OSError, ValueError):
        return Status("waiting", 0.0, {})
    try:
        last = (directory / "metrics.csv").read_text(encoding="utf-8").splitlines()[-1]
        share = min(float(last.split(",")[1]) / summary["steps"], 1.0)
    except (OSError, LookupError, ValueError):
        share = 0.0
    state = summary.get("state", "running")
    return Status("waiting" if state != "done" and touched < since else state, share, summary)


class Overview(threading.Thread):
    """While a sweep runs: a line on stderr whenever a job changes its state, and a table in the file `overview.txt`."""

    def __init__(self, folder: Path, planned: Sequence[Planned], every: float = 2.0) -> None:
        super().__init__(daemon=True)
        self.folder, self.planned, self.every = folder, planned, every
        self.began = time.time()
        self.before = self.status()
        self.over = threading.Event()

    def status(self) -> list[Status]:
        return [look(job.directory, self.began) for job in self.planned]

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
            others.append(f"about {spoken(left / gained * (time.time() - self.began))} left")
        return ", ".join([f"{self.folder.name}: {count['done']} of {len(now)} jobs done", *others])

    def table(self, now: Sequence[Status]) -> str:
        """A line a job: name, state, share of its steps, scores, seconds; or why it failed."""
        width = max(len(job.name) for job in self.planned)
        head = f"{'job':<{width}}  state    steps  val top-1  test top-1  seconds"
        return "\n".join([head, *(row(job.name, status, width) for job, status in zip(self.planned, now, strict=True))])

    def __enter__(self) -> "Overview":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.join()


def row(name: str, status: Status, width: int) -> str:
    """A line of the table of a sweep."""
    scores = status.summary.get("scores", {})
    shown = [f"{scores[key]:.2f}" if key in scores else "" for key in ("val_top1", "test_top1")]
    reason = status.summary.get("reason", "") if status.state == "failed" else ""
    line = f"{name:<{width}}  {status.state:<7}  {status.share:>4.0%}  {shown[0]:>9}  {shown[1]:>10}"
    return f"{line}  {status.summary.get('seconds', 0):>7.0f}  {reason}".rstrip()


def sweep(name: str, task: TaskFunction, settings: Sequence[str], planned: Sequence[Planned]) -> None:
    """Do the jobs that are not done, and say in a table what became of all of them.

    Args:
        name: the configuration file in `conf/`.
        task: does one job, given its configuration; an exception is noted and the others go on.
        settings: what the command line says, `hydra.` settings included.
        planned: the jobs, each with a directory of its own in one folder.

    Raises:
        SystemExit: 1 if not all are done; or what the task raises, which ends the sweep.
    """
    folder = planned[0].directory.parent
    folder.mkdir(parents=True, exist_ok=True)
    todo = [job for job in planned if look(job.directory).state != "done"]
    with Overview(folder, planned) as overview:
        try:
            results = launch(name, task, settings, todo) if todo else []
        finally:
            print(f"\n{overview.write(overview.status())}", file=sys.stderr, end="")
    failed = [job.name for job, result in zip(todo, results, strict=True) if result.status is not JobStatus.COMPLETED]
    if failed:
        print(f"failed: {', '.join(failed)}; the same command tries again", file=sys.stderr)
        raise SystemExit(1)


def launch(name: str, task: TaskFunction, settings: Sequence[str], planned: Sequence[Planned]) -> Sequence[JobReturn]:
    """Hand the jobs to the launcher that `hydra/launcher=` names."""
    hydra = Hydra.create_main_hydra2(name, create_config_search_path(str(CONF)))
    mode = [] if any(text.startswith("hydra.mode=") for text in settings) else ["hydra.mode=MULTIRUN"]
    cfg = hydra.compose_config(name, [*settings, *mode], RunMode.MULTIRUN, with_log_configuration=True)
    context = HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(cfg))
    launcher = Plugins.instance().instantiate_launcher(context, task, cfg)
    jobs = [[*filter(is_ours, job.settings), f"hydra.sweep.subdir={quoted(job.name)}"] for job in planned]
    try:
        with resolving(cfg):  # the launcher asks where the folder is, which may depend on the choice of the sweep
            return launcher.launch(jobs, initial_job_idx=0)
    finally:
        GlobalHydra.instance().clear()


def is_ours(setting: str) -> bool:
    """Hydra's own settings are those of the sweep; its launchers add them to each job by themselves."""
    return not parsed(setting).is_hydra_override()
