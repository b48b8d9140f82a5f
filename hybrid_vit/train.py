"""Door: train a model, or continue a run. `python -m hybrid_vit.train model=hybrid_192`; `--help` says more."""

import math
import os
import shlex
import sys
from pathlib import Path
from typing import Any

from hybrid_vit.command import Check, Job, arguments, clear, door, held
from hybrid_vit.config import Spec, absolute, get, keep, names, parsed, quoted, saved
from hybrid_vit.sweeping import CHANGEABLE, Differs, Unusable, changeable, look
from hybrid_vit.utils.files import read_json
from hybrid_vit.validation import check_values

SIGNALS = {"SIGINT": 130, "SIGTERM": 143}


def main() -> None:
    argv = sys.argv[1:]
    resume = next((text for text in argv if text.startswith("resume=")), "resume=null")
    if resume == "resume=null":
        door("train", begin, argv, also=startable, exclusive=not helper())
    else:
        with clear(code=2):
            job, argv, also = continued(resume, argv)
        door("train", job, argv, also=also, exclusive=not helper())


def begin(spec: Spec, directory: Path) -> Any:
    """Train a run whose directory then holds its configuration with every value as it is used."""
    spec = absolute(spec)
    if not helper():
        keep(spec, directory)
    return start(spec, directory)


def start(spec: Spec, directory: Path) -> Any:
    """Train, or go on with what has a checkpoint; a run that was stopped says how it goes on."""
    from hybrid_vit.callbacks import Stopped, latest  # torch comes with it: --help and a wrong key need not wait
    from hybrid_vit.training import train

    try:
        return train(spec, directory, checkpoint=latest(directory / "checkpoints"))
    except Stopped as stopped:
        here = directory.relative_to(Path.cwd()) if directory.is_relative_to(Path.cwd()) else directory
        print(f"stopped ({stopped}); continue with: python -m hybrid_vit.train {shlex.quote(f'resume={here}')}")
        if str(stopped) in SIGNALS:
            raise SystemExit(SIGNALS[str(stopped)]) from None
        return math.nan


def startable(spec: Spec, directory: Path, multirun: bool) -> None:
    """A new run has one length, and its directory holds no run, or in a multirun the same one."""
    if spec["budget"] is not None and spec["steps"] is not None:
        raise ValueError(f"budget={spec['budget']} and steps={spec['steps']} both set the length; give one of them")
    file = begun(directory)
    if file and multirun:
        same_run(spec, directory)
    elif file and not helper():
        with held(directory):
            raise ValueError(
                f"{directory} holds a run already ({file}); "
                f"continue it with resume={directory}, or choose another directory with hydra.run.dir=PATH"
            )


def begun(directory: Path) -> Path | None:
    """A file of the run that a directory holds, or None: what a killed command left before its first file is no run."""
    files = (directory / name for name in ("summary.json", "checkpoints/last.ckpt", ".hydra/config.yaml"))
    return next((file for file in files if file.is_file() and file.stat().st_size), None)


def same_run(spec: Spec, directory: Path) -> None:
    """A job of a multirun goes on with its own configuration only; one without a checkpoint or scores starts anew.

    Raises:
        Differs: the run in its directory has another configuration.
        Unusable: what lies there is damaged.
    """
    here, done = absolute(spec), look(directory).state == "done"
    begun = any((directory / "checkpoints" / name).exists() for name in ("last.ckpt", "previous.ckpt"))
    try:
        own = saved(directory)
        if begun and not isinstance(read_json(directory / "summary.json").get("steps"), int):
            raise ValueError(f"{directory / 'summary.json'} cannot be read (it has no number of steps)")
    except ValueError as error:
        if begun or done:
            raise Unusable(f"{error}; delete {directory} to train this job from its beginning") from None
        return
    for key in names(here):
        there, value = get(own, key), get(here, key)
        if not changeable(key) and not isinstance(value, dict) and there != value:
            raise Differs(f"{directory} holds a run with {key}={there}, not {value}")


def helper() -> bool:
    """Whether Lightning started this process to help with a run; it passes on the command and the directory."""
    return os.environ.get("LOCAL_RANK", "0") != "0"


def continued(resume: str, argv: list[str]) -> tuple[Job, list[str], Check]:
    """`resume=DIR` and all arguments -> what the door needs to continue that run with its own configuration."""
    directory = run_directory(resume)
    args, settings, flags = arguments([text for text in argv if text != resume])
    if args.multirun:
        raise ValueError(f"{resume} continues one run; leave out -m")
    keys = [parsed(text).key_or_group for text in settings]
    for key in keys:
        if not changeable(key) and not (helper() and key.startswith("hydra.")):
            raise ValueError(
                f"{key} cannot change when a run continues, only {', '.join(CHANGEABLE)} can; "
                f"leave out resume to start a new run"
            )
    own = saved(directory)
    own["trainer"]["max_time"] = None  # where it stopped before is not where it ends

    def merged(spec: Spec) -> Spec:
        for key in (key for key in keys if not key.startswith("hydra.")):
            parent, _, last = key.rpartition(".")
            (get(own, parent) if parent else own)[last] = get(spec, key)
        return own

    def job(spec: Spec, directory: Path) -> Any:
        return start(merged(spec), directory)

    def also(spec: Spec, directory: Path, multirun: bool) -> None:
        check_values(merged(spec))

    there = [f"resume={quoted(directory)}", f"hydra.run.dir={quoted(directory)}", "hydra.output_subdir=null"]
    return job, [*flags, *settings, *there], also


def run_directory(resume: str) -> Path:
    """The directory that `resume=` names, if it holds a run that is not done; one without a checkpoint starts anew."""
    text = resume.removeprefix("resume=")
    directory = Path(str(parsed(resume).value()) if text.startswith(("'", '"')) else text).absolute()
    saved(directory)
    summary = directory / "summary.json"
    if summary.exists() and read_json(summary, "leave out resume to start a new run").get("state") == "done":
        raise ValueError(f"{directory} is done: its scores are in {summary}; leave out resume to start a new run")
    return directory


if __name__ == "__main__":
    main()
