"""Run the jobs of a sweep that are not done, with one of Hydra's launchers.

Hydra's own sweeper knows only products, and repeats every job. Here a job that is done is skipped, one that was stopped
continues, and one that fails is recorded while the others go on. The launcher runs the jobs: one after the other,
several at a time (`hydra/launcher=joblib`), or on a cluster (ray, submitit_slurm).
"""

import copy
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

from hybrid_vit.cli.folder import RECORD
from hybrid_vit.cli.jobs import Planned
from hybrid_vit.cli.overview import Overview, look, stamp
from hybrid_vit.config import schema
from hybrid_vit.config.compose import FOLDERS, Spec, compose_config, look_in, parse_override, quote, resolving
from hybrid_vit.utils.files import Lock, read_json, write_json


class JobFailed(Exception):
    """A job of a sweep failed; the message is the sentence for the user. It can be sent from process to process."""


def sweep(
    cfg: DictConfig,
    task: TaskFunction,
    planned: Sequence[Planned],
    *,
    own: Spec,
    why: str = "",
    again: str = "the same command",
) -> None:
    """Run the jobs that are not done, and print a table of the results of all of them.

    Args:
        cfg: composed from the settings with one value, with Hydra's own under `hydra`.
        task: runs one job, given its configuration; an exception is recorded and the other jobs go on.
        planned: the jobs, each with a directory of its own in one folder, which exists.
        own: the `purpose` of the sweep.
        why: why it has this folder and not the one of its name.
        again: the command that continues it.

    Raises:
        SystemExit: 1 if not all are done; or what the task raises, which ends the sweep.
    """
    folder = planned[0].directory.parent
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
        if failed:
            remedy = f"see above, then {again}" if any(job.fault for job in failed) else f"{again} tries again"
            print(f"failed: {', '.join(job.name for job in failed)}; {remedy}", file=sys.stderr)
        elif any(status.state != "done" for status in now):
            print(f"{again} goes on", file=sys.stderr)
    if any(status.state != "done" for status in now):
        raise SystemExit(1)


def relaunch(cfg: DictConfig, task: TaskFunction, todo: Sequence[Planned]) -> None:
    """Launch jobs; those whose process died run again, and so do those that the launcher ended because of it.

    Loky ends all of its workers if one dies, and does not say which. So a job that ran at two such times runs alone,
    after the others, and has failed for good if its process dies then, too.
    """
    deaths: Counter[str] = Counter()
    while todo:
        together = [job for job in todo if deaths[job.name] < 2]
        batch = together or todo[:1]
        before = {job.name: stamp(job) for job in batch}
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
            over = [
                job
                for job in batch
                if look(job.directory).state in ("done", "failed") and stamp(job) != before[job.name]
            ]
            todo = [job for job in todo if job not in [*gone, *over]]
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
                os._exit(128 + signal.SIGTERM)  # a worker would wait for a job that no process will send

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

    def __init__(self) -> None:
        self.folder = next(map(str, FOLDERS[1:]), None)  # of --config-dir, which another process does not know

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        look_in(self.folder)
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
