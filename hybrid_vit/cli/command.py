"""A command: check its whole command line, then let Hydra make the directory and run the work.

A mistake leaves as one sentence on stderr and an exit code: 2 for the command line, with nothing written; 1 for what
failed later, with its traceback in the log file of the run. HYDRA_FULL_ERROR=1 shows every traceback.
"""

import argparse
import functools
import io
import itertools
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from hybrid_vit import __version__
from hybrid_vit.cli.folder import RECORD, candidates, other_purpose, purpose, unused
from hybrid_vit.cli.jobs import Differs, Planned, Unusable, each_value, jobs
from hybrid_vit.cli.overview import look
from hybrid_vit.cli.sweep import JobFailed, attended, context, note_failure, sweep
from hybrid_vit.config import schema
from hybrid_vit.config.compose import (
    PATHS,
    WHOLE,
    Spec,
    as_yaml,
    compose_config,
    is_group,
    look_in,
    options,
    parse_override,
    quote,
    quote_free_text,
    resolve,
    resolving,
    task_settings,
)
from hybrid_vit.config.validation import check_together, check_values
from hybrid_vit.utils.errors import UserError, out_of_memory, sentence, worker_died
from hybrid_vit.utils.files import Lock, read_json, write_json
from hybrid_vit.utils.paths import CONF, expanded

Job = Callable[[Spec, Path], Any]
Check = Callable[[Spec, Path, bool], None]

DASHES = "; settings are written without dashes, e.g. epochs=3"
PATIENCE = 30.0  # seconds, in which a worker of a sweep that was killed saves a checkpoint and ends
# What a user can fix, by name, so that torch and Lightning need not be imported to recognise their errors.
FIXABLE = {"UserError", "OSError", "MisconfigurationException"}
# Settings of Hydra that have no effect here, or a wrong one.
REFUSED = {
    **dict.fromkeys(
        ("hydra/sweeper", "hydra.sweeper"), "-m has a sweeper here, and python -m hybrid_vit.search has Optuna's"
    ),
    "hydra.job.chdir": "paths are those of the folder in which the command is started",
    "hydra.sweep.subdir": "the folder of a job is its name, by which the same command finds it again",
    "hydra.searchpath": "--config-dir FOLDER adds a folder like conf/",
}


def arguments(argv: list[str]) -> tuple[argparse.Namespace, list[str], list[str]]:
    """Hydra's options, parsed; the settings; the options as they were written. --version prints ours.

    Raises:
        UserError: an option that Hydra does not have.
    """
    options = [*itertools.takewhile("--".__ne__, argv)]
    if "--version" in options:
        print(f"hybrid_vit {__version__}")
        raise SystemExit(0)
    parser = get_args_parser()
    parser.allow_abbrev = False
    parser.error = refuse  # type: ignore[method-assign]
    for text in options:
        if text[:1] == "-" != text and text.partition("=")[0] not in parser._option_string_actions:
            raise UserError(f"{text} is not an option{DASHES}")
    args, rest = parser.parse_known_args(argv)  # argparse leaves settings behind a second option
    if args.package and not args.cfg:
        raise UserError(f"--package is for --cfg{DASHES}")
    settings = args.overrides + [text for text in rest if text != "--"]
    known = set(settings)  # there may be thousands of paths
    return args, settings, [text for text in argv if text not in known]


def refuse(message: str) -> NoReturn:
    """What argparse says of an option that is not used as it must be, as a UserError."""
    raise UserError(message + DASHES * ("ignored explicit argument" in message))


@dataclass(frozen=True)
class Plan:
    """A configuration, where it writes, whether that directory must be a new one, and of a multirun its jobs."""

    cfg: DictConfig
    place: Path
    fresh: bool
    jobs: list[Planned]
    purpose: Spec = field(default_factory=dict)
    why: str = ""  # it has this folder


def check(argv: list[str], name: str = "train", also: Check | None = None) -> Plan | None:
    """Everything about a command line that can be known before it runs, in a multirun for each of its jobs.

    Args:
        argv: the arguments after the command.
        name: the configuration file in `conf/`.
        also: checks a plain configuration, the directory it would run in, and whether that is one of a multirun.

    Returns:
        What is to be done; None if it is only something to be shown, such as `--cfg job`.

    Raises:
        UserError: a sentence that names the key or the file, and the remedy.
    """
    args, settings, _ = arguments(argv)
    if args.config_name or args.config_path:
        raise UserError("--config-name and --config-path are not taken; --config-dir adds a folder like conf/")
    look_in(args.config_dir)
    if args.help or args.hydra_help or args.info or args.shell_completion or args.experimental_rerun:
        return None
    for text in settings:
        key, equals, value = text.partition("=")
        if equals and not value and key in (*PATHS, "name"):
            raise UserError(f"{text} is empty (an unset variable?); give a value, or leave it out")
        if name == "train":
            check_bare(text)
        key = key.strip("+~")
        if key in REFUSED and text not in ("hydra/sweeper=arms", "hydra.job.chdir=false"):
            raise UserError(f"{text}: leave it out; {REFUSED[key]}")
    several = [text for text in settings if parse_override(text).is_sweep_override()]
    # With one of several options of a group, the keys that only these have are known.
    firsts = [
        text
        for each in map(parse_override, several)
        if is_group(each.key_or_group) and each.key_or_group not in WHOLE
        if not (each.is_add() or each.is_interval_sweep())
        for text in each_value(each)[:1]
    ]
    cfg = compose_config([*firsts, *(text for text in settings if text not in several)], name)
    multirun = args.multirun or cfg.hydra.mode == RunMode.MULTIRUN
    if multirun and any(text.startswith("hydra.run.dir=") for text in settings):
        raise UserError("hydra.run.dir has no effect on several runs; write hydra.sweep.dir=PATH")
    if not isinstance(cfg.hydra.verbose, bool | str | ListConfig):
        raise UserError(f"hydra.verbose={cfg.hydra.verbose} must be true, false or names of loggers")
    if several and not multirun:
        key, _, value = several[0].partition("=")
        raise UserError(
            f"{several[0]} has several values; add -m to run each of them, "
            f"or write {key}=[{value}] for a list and \"{key}='{value}'\" for one text"
        )
    if args.cfg:
        return None
    if not multirun:
        resolve(cfg)  # what is wrong in the settings is said of them, not of the directory that is named by them
    kind = "sweep" if multirun else "run"
    place, fresh = destination(cfg, kind)
    if not multirun:
        check_job(cfg, name, place, also)
        return Plan(cfg, place, fresh, [])
    sweeper = cfg.hydra.sweeper
    listed = [
        (job, chosen, compose_config(chosen, name))
        for job, chosen in jobs(settings, sweeper.params, sweeper.arms, sweeper.only)
    ]
    for job, _, composed in listed:
        if any(composed.hydra.sweeper[key] != sweeper[key] for key in ("params", "arms")):
            raise UserError(f"{job} is a sweep itself; run one sweep at a time")
    own = purpose(cfg, settings)
    given = fresh or any(text.startswith("hydra.sweep.dir=") for text in settings)
    # Only training runs can be compared with what is asked for now.
    if name != "train" and (place / RECORD).exists() and (difference := other_purpose(place, own)):
        raise UserError(f"{place} is of {difference}; choose another folder with hydra.sweep.dir=PATH")
    different: Differs | None = None
    for folder, why in [(place, "")] if given else candidates(place, own):
        try:
            planned = [
                Planned(job, chosen, folder / job, check_planned(cfg, name, folder / job, also))
                for job, chosen, cfg in listed
            ]
            return Plan(cfg, folder, fresh, planned, own, why or str(different or ""))
        except Differs as error:
            different = different or error
    assert different
    raise UserError(f"{different}; choose another folder with hydra.sweep.dir=PATH")


def check_bare(text: str) -> None:
    """UserError for an option without its group, such as fast_4m, in the command line of a training."""
    for group in () if "=" in text else ("experiment", "sweep", "model", "data"):
        if text in options(group):
            raise UserError(f"{text!r} is not a setting; write {group}={text}")


def check_planned(cfg: DictConfig, name: str, directory: Path, also: Check | None) -> str:
    """Check a job of a multirun; what is wrong with its directory alone does not stop the others, and is returned."""
    try:
        check_job(cfg, name, directory, also, multirun=True)
        if directory.exists() and not directory.is_dir():
            raise Unusable(f"{directory} is a file; delete it, and the same command trains this job")
    except Unusable as error:
        return str(error)
    return ""


def destination(cfg: DictConfig, kind: str) -> tuple[Path, bool]:
    """The directory of a "run" or the folder of a "sweep", and whether it is named by the time, so a new one each time.

    Two commands of the same second would share a name: what is there already is left to the other.
    """
    with resolving(cfg):
        place = expanded(cfg.hydra[kind].dir)
    pattern = str(OmegaConf.to_container(cfg.hydra[kind], resolve=False))
    given = "out" if "${out}" in pattern else f"hydra.{kind}.dir"
    if given == "out":
        pattern = str(OmegaConf.to_container(OmegaConf.masked_copy(cfg, ["out"]), resolve=False))
    named = kind == "sweep" and "${either:" in pattern and cfg.hydra.runtime.choices.get("sweep")
    fresh = "${now:" in pattern and not named
    place = unused(place) if fresh else place
    if place != Path():  # where nothing is written
        check_place(place, given)
    return place, fresh


def claim(place: Path) -> Path:
    """Make a directory that no other process has: `place`, or the first of place_2, place_3, ... that is not there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with suppress(FileExistsError):
            chosen = unused(place)
            chosen.mkdir()
            return chosen


def check_job(cfg: DictConfig, name: str, directory: Path, also: Check | None, *, multirun: bool = False) -> None:
    """A value that no run can have is an error, and what `also` finds."""
    spec = resolve(cfg)
    check_values(spec, name)
    check_together(spec, name)
    given = [text.partition("=")[0] for text in task_settings(cfg)]
    length = next((key for key in ("steps", "budget") if spec.get(key) is not None), None)
    if name == "train" and "epochs" in given and length and "debug" not in given:
        raise UserError(f"epochs has no effect beside {length}={spec[length]}; leave it out, or add {length}=null")
    if also:
        also(spec, directory, multirun)


def check_place(directory: Path, key: str) -> None:
    """A directory that cannot be made is an error that names the `key` to change: it is made, elsewhere, to try."""
    there = directory.absolute()
    try:
        place = next(path for path in (there, *there.parents) if path.exists())
        with tempfile.TemporaryDirectory(dir=place, prefix=".hybrid_vit_") as trial:
            (Path(trial) / there.relative_to(place)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"{place} is a file" if isinstance(error, NotADirectoryError) else error.strerror
        raise UserError(f"{directory} cannot be written: {what}; choose another place with {key}=PATH") from None


def name_run(argv: list[str]) -> list[str]:
    """The arguments; one that is a directory or a bare name is the `run`, and so is the value of `model`."""
    _, settings, flags = arguments(argv)
    # `model` is a group of what trains, so Hydra takes model=NAME for a choice of one.
    settings = [text.replace("model=", "run=", 1) if text.startswith("model=") else text for text in settings]
    runs = places(settings)
    given = [*runs, *(text for text in settings if text.startswith("run="))]
    if len(given) > 1:
        raise UserError(
            f"{' and '.join(given)} would be {len(given)} runs; settings are written KEY=VALUE; "
            "one run at a time; for several give -m run=A,B"
        )
    return [*flags, *(f"run={quote(text)}" if text in runs else text for text in settings)]


def gather_runs(argv: list[str]) -> list[str]:
    """The arguments, with those that are directories as the list `runs`."""
    _, settings, flags = arguments(argv)
    given = places(settings)
    rest = [text for text in settings if text not in given]
    if given and any(text.startswith("runs=") for text in rest):
        raise UserError(f"{', '.join(given)} and runs= are both given; name all runs in one way")
    runs = [f"runs=[{','.join(map(quote, given))}]"] if given else []
    return [*flags, *rest, *runs]


def places(settings: list[str]) -> list[str]:
    """The arguments that are names or directories; a sweep names some of these depth=4."""

    def is_path(key: str) -> bool:
        return "/" in key and not key.startswith("hydra/")

    return [text for text in settings if "=" not in text or os.path.isdir(text) or is_path(text.partition("=")[0])]


def run_command(
    name: str,
    job: Job,
    argv: list[str],
    *,
    read: Callable[[list[str]], list[str]] = list,
    also: Check | None = None,
    exclusive: bool = False,
) -> None:
    """Check a command line, then let Hydra run it: `job(spec, directory)`, once, or for each job of a multirun.

    Args:
        name: the configuration file in `conf/`.
        job: does the work; UserError and OSError are for the user, other errors are ours.
        argv: the arguments after the command.
        read: gives them as settings, such as `name_run`.
        also: as in `check`, before the directory is made.
        exclusive: whether the directory belongs to one process, as those of a multirun do; a second one is refused.

    Raises:
        SystemExit: what failed has been said on stderr.
    """
    logging.raiseExceptions = False  # a log that cannot be written, as on a full disk, is not the error that matters
    for stream in (sys.stdout, sys.stderr):  # a class may have a name that the console's encoding lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with clear(code=2):
        argv = read(argv)
        plan = check(argv, name, also)
    args, settings, flags = arguments(argv)
    if args.help:  # Hydra needs a second for the same text
        print(help_page(name))
        return

    def task(cfg: DictConfig) -> Any:
        with clear():
            return job(resolve(cfg), Path(HydraConfig.get().runtime.output_dir))

    if args.cfg == "job" and not args.package:
        # Hydra's own is without what comes from the run of init_from
        with clear(code=2):
            print(as_yaml(compose_config(settings, name), resolved=args.resolve))
        return
    if not plan:  # something to be shown, or a pickled job of Hydra's
        schema.register()
        sys.argv = [sys.argv[0], *flags, *map(quote_free_text, settings)]
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(task)()
        return
    with clear(code=2), made(plan) as place:
        if plan.jobs:
            plan.cfg.hydra.sweep.dir = str(place)
            with clear(code=2), held(place), clear():
                planned = [replace(job, directory=place / job.name) for job in plan.jobs]
                again = repeating(name, argv, place) if plan.fresh else "the same command"
                noted = functools.partial(noting, task, os.getpid())
                sweep(plan.cfg, noted, planned, own=plan.purpose, why=plan.why, again=again)
            return
        plan.cfg.hydra.run.dir = str(place)
        with clear(code=2), held(place) if exclusive else nullcontext():
            returned = run_job(task, plan.cfg, "hydra.run.dir", None, context(plan.cfg))
            returned.return_value  # noqa: B018  # raises what the task raised


@contextmanager
def made(plan: Plan) -> Iterator[Path]:
    """Make the directory of a command; if it fails before it has written anything but its log, remove it again."""
    parents = [path for path in (plan.place, *plan.place.parents) if not path.exists()]
    place = claim(plan.place) if plan.fresh else plan.place
    place.mkdir(parents=True, exist_ok=True)
    try:
        yield place
    except (Told, UserError, OSError):  # after a mistake of ours, the log has its traceback
        written = {path.name for path in place.iterdir() if path.suffix != ".log"} - {".hydra", ".lock"}
        if parents and not written and Lock(place / ".lock").free():  # else another command has begun there meanwhile
            shutil.rmtree(place)
            for parent in parents[1:]:
                with suppress(OSError):  # another command has put something there meanwhile
                    parent.rmdir()
        raise


class InUse(UserError):
    """Another process uses a directory."""


@contextmanager
def held(directory: Path, patience: float = 0.0) -> Iterator[None]:
    """Within, this process alone uses `directory`, for which it waits `patience` seconds.

    Raises:
        InUse: another one does; names it.
    """
    lock, began = Lock(directory / ".lock"), time.monotonic()
    while not lock.acquire(wait=False):
        if time.monotonic() - began >= patience:
            raise InUse(f"{directory} is in use by {lock.holder()}; wait for its end, or choose another directory")
        time.sleep(0.1)
    try:
        yield
    finally:
        lock.release()


def repeating(name: str, argv: list[str], place: Path) -> str:
    """The command that goes on with a multirun whose folder is named by the time."""
    folder = str(place) if re.fullmatch(r"[\w./-]+", str(place)) else quote(place)
    same = [text for text in argv if not text.startswith("hydra.sweep.dir=")]
    return f"python -m hybrid_vit.{name} {shlex.join([*same, f'hydra.sweep.dir={folder}'])}"


def noting(task: Callable[[DictConfig], Any], parent: int, cfg: DictConfig) -> Any:
    """Do a job of a multirun of the process `parent`; how it ended is written into its directory."""
    directory = Path(HydraConfig.get().runtime.output_dir)
    try:
        with attended(parent), held(directory, PATIENCE):
            if look(directory).state == "done":  # by the process of an earlier command, which ended just now
                return None
            result = task(cfg)
            path = directory / "summary.json"
            if not path.exists() or read_json(path).get("state") == "failed":  # before, not now
                write_json(path, {"state": "done"})
            return result
    except InUse as error:
        print(error, file=sys.stderr)
        raise JobFailed(str(error)) from None
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code != 1:
            raise
        cause = error.__context__ if isinstance(error, SystemExit) else error
        reason = sentence(cause) if isinstance(cause, Exception) else repr(error)
        note_failure(directory, reason)
        raise JobFailed(reason) from None


def help_page(name: str) -> str:
    """What `conf/NAME.yaml` says under hydra.help; long lists of options are wrapped."""
    cfg = compose_config([], name)
    with resolving(cfg):
        text = cfg.hydra.help.template.rstrip()
    return "\n".join(textwrap.fill(line, 100, subsequent_indent=19 * " ") if line else "" for line in text.splitlines())


@contextmanager
def clear(code: int = 1) -> Iterator[None]:
    """What a user can fix leaves this block as a sentence on stderr and an exit code; the log has its traceback."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise Told(130) from None
    except Exception as error:
        failure = (type(error), error, error.__traceback__)
        record = logging.getLogger(__name__).makeRecord(__name__, logging.ERROR, __file__, 0, "failed", (), failure)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handle(record)
        kinds = {kind.__name__ for kind in type(error).__mro__}
        fixable = FIXABLE & kinds or out_of_memory(error) or worker_died(error)
        if not fixable or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(sentence(error), file=sys.stderr)
        raise Told(code) from None


class Told(SystemExit):
    """The end of a command after an error that has been told in a sentence."""
