"""A command: check its whole command line, then let Hydra make the directory and run the work.

A mistake leaves as one sentence on stderr and an exit code: 2 for the command line, with nothing written; 1 for what
failed later, with its traceback in the log file of the run. HYDRA_FULL_ERROR=1 shows every traceback.
"""

import argparse
import functools
import inspect
import itertools
import logging
import math
import os
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hybrid_vit import limits, schema
from hybrid_vit.config import (
    CONF,
    Spec,
    composed,
    get,
    lines,
    literal,
    nearest,
    options,
    parsed,
    plain,
    quoted,
    resolving,
)
from hybrid_vit.durations import seconds
from hybrid_vit.sweeping import JobFailed, Planned, jobs, sweep
from hybrid_vit.utils.files import read_json, write_json

Job = Callable[[Spec, Path], Any]
Check = Callable[[Spec, Path, bool], None]

CHANNELS = 3
TIMES = ("budget", "trainer.max_time")
# How the stems that are known here derive what is left out.
STEMS: dict[str, Callable[..., Any]] = {
    schema.ConvStem._target_: limits.plan,
    schema.ResNetStem._target_: limits.plan,
    schema.MobileStem._target_: limits.plan,
    schema.TokenizerStem._target_: limits.halvings,
    schema.PatchStem._target_: limits.patches,
}
# What a user can mend, by name, so that torch and Lightning need not be imported to recognise their errors.
MENDABLE = {
    *("ValueError", "OSError", "MemoryError", "OutOfMemoryError", "MisconfigurationException", "ModuleNotFoundError")
}


def check_values(spec: Spec, name: str = "train") -> None:
    """Values that no run can have, as far as that is known without torch.

    Args:
        spec: a plain configuration.
        name: of its file in `conf/`.

    Raises:
        ValueError: naming the key and what it may be.
    """
    for key, value, allowed in schema.constrained(spec, schema.SCHEMAS[name]):
        check_value(key, value, allowed)
    for key in TIMES:
        if (value := get(spec, key)) is not None:
            try:
                seconds(value)
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from None
    if name == "train":
        check_model(spec)
        check_training(spec)
        check_data(spec["data"])
    if "accelerator" in spec:
        check_machine(spec["accelerator"]["kind"], get(spec, "trainer.devices") or 1)


def check_value(key: str, value: Any, allowed: schema.Allowed) -> None:
    """A value outside an interval such as "[0, 1)", or that is none of the choices, is an error."""
    if isinstance(allowed, tuple):
        if value not in allowed:
            hint = nearest(str(value), list(allowed))
            raise ValueError(f"{key}={value} is unknown; {hint}{' ' * bool(hint)}{key} is one of {', '.join(allowed)}")
        return
    low, high = map(float, allowed[1:-1].split(","))
    for number in value if isinstance(value, list) else [value]:
        above = number > low or (allowed[0] == "[" and number == low)
        below = number < high or (allowed[-1] == "]" and number == high)
        if above and below:
            continue
        what = f"lie in {allowed}"
        if not above and high > 1 and low <= 1:
            what = "not be negative" if low == 0 and allowed[0] == "[" else "be positive"
        raise ValueError(f"{key}={value} must {what}")


def check_model(spec: Spec) -> None:
    """Sizes that do not go together are an error."""
    model = spec["model"]
    stem = model.get("stem")
    if isinstance(stem, dict) and stem.get("_target_") in STEMS:
        plan = STEMS[stem["_target_"]]
        plan(**{key: stem[key] for key in inspect.signature(plan).parameters if key in stem})
    if model.get("_target_") == schema.Hybrid._target_:
        limits.derive_heads(model["embed_dim"], model["num_heads"])


def check_training(spec: Spec) -> None:
    """Settings of a training that do not go together, or parts of the augmentation that are none, are an error."""
    optim = spec["optim"]
    epochs = spec["epochs"] if spec["steps"] is None and spec["budget"] is None else math.inf
    warmup = limits.warmup(optim["warmup_epochs"], epochs)
    limits.check_schedule(lr=optim["lr"], epochs=epochs, warmup_epochs=warmup, min_lr=optim["min_lr"])
    limits.check_score(spec["score"], averaged=spec["ema"]["decay"] > 0)
    limits.check_teacher(spec["model"].get("pool"), spec["distill"]["teacher"])
    for key, part in spec["augment"].items():
        if part is not None and not (isinstance(part, dict) and "_target_" in part):
            raise ValueError(
                f"augment.{key}={part} is no part of an augmentation; "
                f"use augment.{key}=null for none, or one of augment={', '.join(options('augment'))}"
            )


def check_data(data: Spec) -> None:
    """Numbers that are not one for each channel, or a root where no data can be, are an error."""
    for key in ("mean", "std"):
        if data[key] is not None and len(data[key]) != CHANNELS:
            raise ValueError(f"data.{key}={data[key]} must be {CHANNELS} numbers, one for each channel")
    if data["root"] is None:
        if data["source"] != "digits":
            raise ValueError(f"data={data['source']} needs a folder to lie in; set data.root=PATH")
        return
    root = Path(data["root"]).expanduser()
    if data["source"] == "folder" and not root.exists():
        raise ValueError(f"the picture folder {root} does not exist; set data.root to one that does")
    if root.exists() and not root.is_dir():
        raise ValueError(f"data.root={root} is a file; give the folder that holds the data")


def check_machine(kind: str, devices: int) -> None:
    """An accelerator that certainly is not here, or more processes than cores, is an error."""
    linux = sys.platform == "linux"
    gpu = not linux or any(next(Path("/dev").glob(name), None) for name in ("nvidia*", "kfd", "dxg"))
    if (kind == "gpu" and not gpu) or (kind == "mps" and linux):
        raise ValueError(f"accelerator={kind} is not on this machine; use accelerator=cpu, or auto, which chooses")
    cores = os.cpu_count() or 1
    if devices > cores and (kind == "cpu" or (kind == "auto" and not gpu)):
        raise ValueError(
            f"trainer.devices={devices} are more processes than the {cores} cores here; use at most {cores}"
        )


def arguments(argv: list[str]) -> tuple[argparse.Namespace, list[str], list[str]]:
    """Hydra's options, parsed; the settings; the options as they were written.

    Raises:
        ValueError: an option that Hydra does not have.
    """
    args, rest = get_args_parser().parse_known_args(argv)
    for text in rest:  # argparse leaves settings behind a second option
        if text.startswith("-"):
            raise ValueError(f"{text} is not an option; settings are written without dashes, e.g. epochs=3")
    settings = args.overrides + rest
    return args, settings, [text for text in argv if text not in settings]


@dataclass(frozen=True)
class Plan:
    """Where a command writes, whether that directory must be a new one, and the jobs of a multirun."""

    place: Path
    fresh: bool
    jobs: list[Planned]


def check(argv: list[str], name: str = "train", also: Check | None = None) -> Plan | None:
    """Everything about a command line that can be known before it runs, in a multirun for each of its jobs.

    Args:
        argv: the arguments after the command.
        name: the configuration file in `conf/`.
        also: checks a plain configuration, the directory it would run in, and whether that is one of a multirun.

    Returns:
        What is to be done; None if it is only something to be shown, such as `--cfg job`.

    Raises:
        ValueError: a sentence that names the key or the file, and the remedy.
    """
    args, settings, _ = arguments(argv)
    elsewhere = args.config_name or args.config_path or args.config_dir or args.experimental_rerun
    if args.help or args.hydra_help or args.info or args.shell_completion or elsewhere:
        return None
    several = [text for text in settings if parsed(text).is_sweep_override()]
    cfg = composed([text for text in settings if text not in several], name)
    multirun = args.multirun or cfg.hydra.mode == RunMode.MULTIRUN
    if several and not multirun:
        key, _, value = several[0].partition("=")
        raise ValueError(
            f"{several[0]} has several values; add -m to run each of them, "
            f"or write {key}=[{value}] for a list and \"{key}='{value}'\" for one text"
        )
    if args.cfg:
        return None
    if not multirun:
        plain(cfg)  # what is wrong in the settings is said of them, not of the directory that is named by them
    kind = "sweep" if multirun else "run"
    place, fresh = destination(cfg, kind)
    check_place(
        place, "out" if "${out}" in str(OmegaConf.to_container(cfg.hydra[kind], resolve=False)) else f"hydra.{kind}.dir"
    )
    if not multirun:
        check_job(cfg, name, place, also)
        return Plan(place, fresh, [])
    planned = []
    sweeper = cfg.hydra.sweeper
    for job, chosen in jobs(settings, sweeper.params, sweeper.arms, sweeper.only):
        check_job(composed(chosen, name), name, place / job, also, multirun=True)
        planned.append(Planned(job, chosen, place / job))
    return Plan(place, fresh, planned)


def destination(cfg: DictConfig, kind: str) -> tuple[Path, bool]:
    """The directory of a "run" or the folder of a "sweep", and whether it is named by the time, so a new one each time.

    Two commands of the same second would share a name: what is there already is left to the other.
    """
    with resolving(cfg):
        place = Path(cfg.hydra[kind].dir)
    fresh = "${now:" in str(OmegaConf.to_container(cfg.hydra[kind], resolve=False))
    return (unused(place) if fresh else place), fresh


def unused(place: Path) -> Path:
    """`place`, or the first of place_2, place_3, ... that is not there."""
    numbered = (place.with_name(f"{place.name}_{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([place], numbered) if not path.exists())


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
    spec = plain(cfg)
    check_values(spec, name)
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
        raise ValueError(f"{directory} cannot be written: {what}; choose another place with {key}=PATH") from None


def door(name: str, job: Job, argv: list[str], *, also: Check | None = None) -> None:
    """Check a command line, then let Hydra run it: `job(spec, directory)`, once, or for each job of a multirun.

    Args:
        name: the configuration file in `conf/`.
        job: does the work; ValueError and OSError are for the user, other errors are ours.
        argv: the arguments after the command.
        also: as in `check`, before the directory is made.

    Raises:
        SystemExit: what failed has been said on stderr.
    """
    with clear(code=2):
        plan = check(argv, name, also)
    args, settings, flags = arguments(argv)
    if args.help:  # Hydra's own way to the same text takes a second
        print(help_page(name))
        return
    schema.register()
    settings = [*map(literal, settings)]

    @functools.wraps(job)  # Hydra names the log file after the module of the job
    def task(cfg: DictConfig) -> Any:
        with clear():
            return job(plain(cfg), Path(HydraConfig.get().runtime.output_dir))

    if plan:
        with clear():
            place = claim(plan.place) if plan.fresh else plan.place
        settings.append(f"hydra.{'sweep' if plan.jobs else 'run'}.dir={quoted(place)}")
    if plan and plan.jobs:
        with clear():
            planned = [replace(job, directory=place / job.name) for job in plan.jobs]
            sweep(name, functools.partial(noting, task), settings, planned)
        return
    sys.argv = [sys.argv[0], *flags, *settings]
    hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(task)()


def noting(task: Callable[[DictConfig], Any], cfg: DictConfig) -> Any:
    """Do a job of a multirun; that it failed, and why, is written into its directory."""
    try:
        return task(cfg)
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code != 1:
            raise
        cause = error.__context__ if isinstance(error, SystemExit) else error
        summary = Path(HydraConfig.get().runtime.output_dir) / "summary.json"
        before = read_json(summary) if summary.exists() else {}
        reason = sentence(cause) if isinstance(cause, Exception) else repr(error)
        write_json(summary, before | {"state": "failed", "reason": reason})
        raise JobFailed(reason) from None


def help_page(name: str) -> str:
    """What `conf/NAME.yaml` says under hydra.help; long lists of options are wrapped."""
    cfg = composed([], name)
    with resolving(cfg):
        text = cfg.hydra.help.template.rstrip()
    return "\n".join(textwrap.fill(line, 100, subsequent_indent=19 * " ") if line else "" for line in text.splitlines())


@contextmanager
def clear(code: int = 1) -> Iterator[None]:
    """What a user can mend leaves this block as a sentence on stderr and an exit code; the log has its traceback."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        failure = (type(error), error, error.__traceback__)
        record = logging.getLogger(__name__).makeRecord(__name__, logging.ERROR, __file__, 0, "failed", (), failure)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handle(record)
        mendable = MENDABLE & {kind.__name__ for kind in type(error).__mro__}
        if not mendable or os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(sentence(error), file=sys.stderr)
        raise SystemExit(code) from None


def sentence(error: Exception) -> str:
    """An error as a user wants to read it."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if "Memory" in type(error).__name__:
        return f"out of memory; try a smaller batch_size or model ({lines(error)})"
    return str(error) or repr(error)
