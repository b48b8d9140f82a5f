"""Many runs: parameters and arms -> jobs -> a folder with a run directory a job, in which each job is done once.

Hydra's own sweeper knows products only, and does everything again. Here a job whose run is done is left out, one that
was stopped goes on, one that fails is recorded while the others go on. Hydra's launchers do the work: one after the
other, several at a time (`hydra/launcher=joblib`), on a cluster (ray, submitit_slurm).

sweep.json      what the folder is for: the settings that all its jobs share
overview.txt    a line a job
.lock           held by the process that runs the sweep
"""

import copy
import hashlib
import itertools
import math
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from hybrid_vit.config import schema
from hybrid_vit.config.compose import Spec, compose_config, dotted_keys, get_value, parse_override, quote, resolving
from hybrid_vit.utils.durations import spoken
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import Lock, read_json, write_json, write_text

# How and where a run computes may differ when it continues; what it computes may not.
CHANGEABLE = (
    *("trainer", "accelerator", "logger", "data.root", "data.num_workers", "data.check", "checkpoint_minutes"),
    *("tags", "verbose"),
)
FIXED = (  # but these are what it computes
    *("trainer.accumulate_grad_batches", "trainer.limit_train_batches"),
    *("trainer.limit_val_batches", "trainer.limit_test_batches"),
)
RECORD = "sweep.json"
LONGEST_NAME = 150  # of a directory, in characters; file systems allow 255
STATES = ("done", "running", "waiting", "stopped", "failed")


@dataclass(frozen=True)
class Planned:
    """A job of a sweep: what it is called in it, its settings, its run directory, and why that cannot be used."""

    name: str
    settings: list[str]
    directory: Path
    fault: str = ""


@dataclass(frozen=True)
class Status:
    """What a job's directory tells: its state, the share of its steps that is done, and its summary."""

    state: str
    share: float
    summary: Mapping[str, Any]


class JobFailed(Exception):
    """A job of a sweep failed; the message is the sentence for the user. It can be sent from process to process."""


class Differs(UserError):
    """The directory of a job holds a run with another configuration."""


class Unusable(UserError):
    """What lies in the directory of a job is damaged; the other jobs of the sweep can go on."""


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
        UserError: an interval, which has no end of values, or an arm that there is not.
    """
    params, arms = params or {}, arms or {}
    for arm in only or ():
        if arm not in arms:
            raise UserError(f"hydra.sweeper.only: {arm} is not one of {', '.join(arms) or 'them: there are no arms'}")
    lists: dict[str, list[str]] = {}
    named = {*params}
    for override in map(parse_override, [*(f"{key}={values}" for key, values in params.items()), *settings]):
        key = override.get_key_element()
        if override.is_interval_sweep():
            raise UserError(f"{override.input_line} has no end; write {key}=A,B,C or {key}=range(FROM,TO,STEP)")
        lists[key] = [str(override.input_line)]
        if override.is_sweep_override():
            named.add(key)
            lists[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
    for values in itertools.product(*lists.values()):
        said = [value for key, value in zip(lists, values, strict=True) if key in named]
        for arm in only or arms or ("",):
            own = [f"name={quote(arm)}"] if arm and "name" not in lists else []
            yield file_name(",".join(filter(None, [arm, *said]))), [*values, *arms.get(arm, ()), *own]


def file_name(text: str) -> str:
    """A name of a directory that says `text`; what it cannot say ends in a number of its own."""
    name = re.sub(r"[^\w.,=@+-]+", "_", text)[:LONGEST_NAME] or "job"
    return name if name == text or not text else f"{name}-{hashlib.sha1(text.encode()).hexdigest()[:8]}"


def changeable(key: str) -> bool:
    """Whether `key` says only how and where a run computes."""
    return within(key, CHANGEABLE) and key not in FIXED


def within(key: str, others: Sequence[str]) -> bool:
    """Whether a dotted key is one of `others` or below one of them."""
    return any(key == other or key.startswith(f"{other}.") for other in others)


def purpose(cfg: DictConfig, settings: Sequence[str]) -> Spec:
    """What a sweep is for: the keys `varied`, of which each job has its own value, and the `settings` that all share.

    Args:
        cfg: composed from the settings with one value.
        settings: of the command line.
    """
    several = [override.get_key_element() for override in map(parse_override, settings) if override.is_sweep_override()]
    varied = sorted({*cfg.hydra.sweeper.params, *several})
    own = [key.strip("+").rpartition("@")[2].replace("/", ".") for key in varied]
    tree: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
    shared = [key for key in dotted_keys(tree) if not isinstance(get_value(tree, key), dict) and not changeable(key)]
    shared = [key for key in shared if not within(key, own)]
    return {"sweep": cfg.hydra.runtime.choices.get("sweep"), "varied": varied} | {
        "settings": {key: get_value(tree, key) for key in shared}
    }


def candidates(place: Path, own: Spec) -> Iterator[tuple[Path, str]]:
    """The folders that a sweep may have, best first, each with why it is not `place`, if it is not.

    They are those that were made for the same, so that the same command finds its own again, and then a new one:
    `place`, or the first of place_2, place_3, ... that is not there. A `place` without a record, such as one of an
    older version, may be the sweep's own: its runs tell.

    Args:
        place: the folder that the sweep is called after.
        own: its `purpose`.
    """
    pattern = re.compile(re.escape(place.name) + r"_(\d+)")
    others = [path for path in place.parent.glob("*") if pattern.fullmatch(path.name) and (path / RECORD).exists()]
    why = ""
    for folder in [
        *([place] if place.exists() else []),
        *sorted(others, key=lambda path: int(path.name.rpartition("_")[2])),
    ]:
        difference = other_purpose(folder, own) if (folder / RECORD).exists() else None
        if difference is None:
            yield folder, why
        elif not why:
            why = f"{folder} is of {difference}"
    yield unused(place), why


def unused(place: Path) -> Path:
    """`place`, or the first of place_2, place_3, ... that is not there."""
    numbered = (place.with_name(f"{place.name}_{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([place], numbered) if not path.exists())


def other_purpose(folder: Path, own: Spec) -> str | None:
    """For what else a folder was made: 'a sweep with epochs=1, not 200'; None if it was made for the same.

    Raises:
        UserError: its record is damaged.
    """
    path = folder / RECORD
    remedy = f"delete it if all runs in {folder} belong to this sweep, or choose another folder: hydra.sweep.dir=PATH"
    there = read_json(path, remedy)
    varied, settings = there.get("varied"), there.get("settings")
    if not isinstance(varied, list) or not isinstance(settings, dict):
        raise UserError(f"{path} cannot be read (no sweep has written it); {remedy}")
    if there.get("sweep") != own["sweep"]:
        return f"another sweep, {there.get('sweep')}"
    if varied != own["varied"]:
        return f"a sweep over {', '.join(map(str, varied)) or 'nothing'}, not {', '.join(own['varied']) or 'nothing'}"
    # A key that one of the two lacks is of another part, which differs in more, or of another version of this package.
    for key in filter(settings.__contains__, own["settings"]):
        if settings[key] != own["settings"][key]:
            return f"a sweep with {key}={settings[key]}, not {own['settings'][key]}"
    return None


def look(directory: Path) -> Status:
    """What a run directory tells; a run that no process works at any more is not running, it waits to go on."""
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
    """Which version of its summary a job has; each is a new file."""
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
    summary = status.summary
    scores = summary["scores"] if isinstance(summary.get("scores"), dict) else {}
    shown = [f"{scores[key]:.2f}" if is_number(scores.get(key)) else "" for key in ("val_top1", "test_top1")]
    seconds = f"{summary['seconds']:.0f}" if is_number(summary.get("seconds")) else ""
    reason = summary.get("reason", "") if status.state == "failed" else ""
    if limited := summary.get("limited"):  # such a score is none
        shown, reason = ["", ""], reason or f"limited to {', '.join(f'{k}={v}' for k, v in limited.items())}: no score"
    line = f"{name:<{width}}  {status.state:<7}  {status.share:>4.0%}  {shown[0]:>9}  {shown[1]:>10}"
    return f"{line}  {seconds:>7}  {reason}".rstrip()


def is_number(value: object) -> bool:
    """Whether a value from a file can be shown as a number."""
    return isinstance(value, int | float) and math.isfinite(value)


def sweep(
    cfg: DictConfig,
    task: TaskFunction,
    planned: Sequence[Planned],
    *,
    own: Spec,
    why: str = "",
    again: str = "the same command",
) -> None:
    """Do the jobs that are not done, and say in a table what became of all of them.

    Args:
        cfg: composed from the settings with one value, with Hydra's own under `hydra`.
        task: does one job, given its configuration; an exception is noted and the others go on.
        planned: the jobs, each with a directory of its own in one folder, which is there.
        own: the `purpose` of the sweep.
        why: why it has this folder.
        again: the command that goes on with it.

    Raises:
        SystemExit: 1 if not all are done; or what the task raises, which ends the sweep.
    """
    folder, command = planned[0].directory.parent, again
    if not (folder / RECORD).exists():
        write_json(folder / RECORD, own)
    todo = [job for job in planned if not job.fault and look(job.directory).state != "done"]
    done = len(planned) - len(todo) - sum(bool(job.fault) for job in planned)
    print(f"{folder.name}: {len(planned)} jobs, {done} done already, in {folder}{why and f' ({why})'}", file=sys.stderr)
    overview = Overview(folder, planned)
    try:
        with overview:
            relaunch(cfg, task, todo)
    finally:
        now = overview.status()
        print(f"\n{overview.write(now)}", file=sys.stderr, end="")
        failed = [job for job, status in zip(planned, now, strict=True) if status.state == "failed"]
        again = f"{again} tries again" if not any(job.fault for job in failed) else f"see above, then {again}"
        if failed:
            print(f"failed: {', '.join(job.name for job in failed)}; {again}", file=sys.stderr)
        elif any(status.state != "done" for status in now):
            print(f"{command} goes on", file=sys.stderr)
    if any(status.state != "done" for status in now):
        raise SystemExit(1)


def relaunch(cfg: DictConfig, task: TaskFunction, todo: Sequence[Planned]) -> None:
    """Launch jobs; those whose process died are tried again, with what the launcher ended on account of it.

    Loky ends all of its workers if one dies, and does not say which. So a job that ran at two such times runs alone,
    after the others, and has failed for good if its process dies then, too.
    """
    deaths: Counter[str] = Counter()
    while todo:
        together = [job for job in todo if deaths[job.name] < 2]
        batch = together or todo[:1]
        for job in batch:  # the trace of a process that died earlier
            lock = Lock(job.directory / ".lock")
            if lock.left() and lock.acquire(wait=False):
                lock.release()
        try:
            launch(cfg, task, batch)
            todo = [job for job in todo if job not in batch]
        except BrokenProcessPool:
            died = [job for job in batch if Lock(job.directory / ".lock").left()]
            if not died:
                raise
            deaths.update(job.name for job in died)
            gone = died if len(died) == 1 and deaths[died[0].name] > 1 else []
            for job in gone:
                reason = "its process died each time, without an error (killed, perhaps because memory ran out)"
                note_failure(job.directory, reason)
            todo = [job for job in todo if job not in gone and look(job.directory).state != "done"]
            print(f"a worker died during {' or '.join(job.name for job in died)}", file=sys.stderr)


def note_failure(directory: Path, reason: str) -> None:
    """Write into the summary of a job that it failed, and why; one that is damaged stays as it is."""
    path = directory / "summary.json"
    with suppress(ValueError):
        write_json(path, (read_json(path) if path.exists() else {}) | {"state": "failed", "reason": reason})


@contextmanager
def attended(parent: int) -> Iterator[None]:
    """Within, the end of the process `parent` is like a SIGTERM, if it is the one that started this process.

    A launcher's workers outlive a sweep that is killed, and a job is to be stopped with a checkpoint then.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1):
            if os.getppid() != parent:
                os.kill(os.getpid(), signal.SIGTERM)
                over.wait()
                os._exit(128 + signal.SIGTERM)  # a worker would wait for the next job of nobody

    if os.getppid() == parent:
        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def launch(cfg: DictConfig, task: TaskFunction, planned: Sequence[Planned]) -> None:
    """Hand the jobs to the launcher that `hydra/launcher=` names; it composes the configuration of each."""
    cfg = copy.deepcopy(cfg)
    cfg.hydra.mode = RunMode.MULTIRUN
    own = [f"hydra.sweep.dir={quote(cfg.hydra.sweep.dir)}", f"hydra.job.name={cfg.hydra.job.name}"]
    cfg.hydra.overrides.hydra = [*cfg.hydra.overrides.hydra, *own, "hydra.mode=MULTIRUN"]
    schema.register()
    configure_log(cfg.hydra.hydra_logging, cfg.hydra.verbose)
    launcher = Plugins.instance().instantiate_launcher(context(cfg), task, cfg)
    jobs = [[*filter(is_ours, job.settings), f"hydra.sweep.subdir={quote(job.name)}"] for job in planned]
    with resolving(cfg):  # the launcher asks where the folder is, which may depend on the choice of the sweep
        launcher.launch(jobs, initial_job_idx=0)


class JobComposer:
    """Composes the configuration of a job for Hydra's launchers, with the function that has checked it.

    It stands where Hydra's own loader is, which reads all files again for every job.
    """

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        hydra = master_config.hydra
        cfg = compose_config([*hydra.overrides.hydra, *sweep_overrides], hydra.job.config_name)
        OmegaConf.copy_cache(from_config=master_config, to_config=cfg)  # `now` is the same in all jobs
        return cfg


def context(cfg: DictConfig) -> HydraContext:
    """What Hydra's own parts need to know of a configuration."""
    return HydraContext(config_loader=JobComposer(), callbacks=Callbacks(cfg))  # type: ignore[arg-type]


def is_ours(setting: str) -> bool:
    """Hydra's own settings are those of the sweep; its launchers add them to each job by themselves."""
    return not parse_override(setting).is_hydra_override()
