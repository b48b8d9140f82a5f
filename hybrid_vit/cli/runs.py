"""Which run a command line means: a new one, the same job of a multirun again, or one that continues."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from hybrid_vit.cli.command import arguments, check, held, made
from hybrid_vit.cli.jobs import Differs, Unusable
from hybrid_vit.cli.overview import look
from hybrid_vit.config.changeable import WORDS, changeable
from hybrid_vit.config.compose import Spec, as_train, dotted_keys, get_value, parse_override, quote, resolve
from hybrid_vit.config.saved import load_run_config, make_paths_absolute, save_run_config
from hybrid_vit.config.schema import Distill, EarlyStopping
from hybrid_vit.config.validation import check_values
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import read_json, write_text
from hybrid_vit.utils.logs import logged
from hybrid_vit.utils.paths import expanded, same_place
from hybrid_vit.utils.processes import is_helper

LENGTHS = ("epochs", "steps")


def fit(settings: list[str], callbacks: Sequence[Any] = ()) -> Path:
    """Train the run that these settings describe in this process; its directory.

    Args:
        callbacks: further ones for Lightning's trainer.

    Raises:
        UserError: a setting that cannot be, with the remedy.
        Stopped: by a signal or by `trainer.max_time`; it can be resumed.
    """
    from hybrid_vit.training.callbacks import Stopped, latest  # with torch
    from hybrid_vit.training.parts import processes
    from hybrid_vit.training.run import train

    resume = resumed(settings)
    merged, settings = continued(resume, settings) if resume else (make_paths_absolute, settings)
    plan = check(settings, also=None if resume else startable)
    if not plan or plan.jobs:
        raise UserError("one run is trained here; for several, or to look at a configuration, use the command line")
    spec = merged(resolve(plan.cfg))
    if processes(as_train(spec)) > 1:
        raise UserError("hybrid_vit.fit trains in one process; for several use the command line, or trainer.devices=1")
    with made(plan) as directory, held(directory):
        if not resume:
            save_run_config(spec, directory)
            if not callbacks:  # objects are in no command
                own = [text for text in settings if not parse_override(text).is_hydra_override()]
                write_text(directory / ".hydra" / "overrides.yaml", OmegaConf.to_yaml(own))
        more = lengthening(spec, directory)
        with logged(directory / "train.log"):
            try:
                train(
                    as_train(spec), directory, checkpoint=latest(directory / "checkpoints"), callbacks=callbacks, **more
                )
            except Stopped as error:
                raise Stopped(f"{error}; continue with hybrid_vit.fit(resume={str(directory)!r})") from None
    return directory


def resumed(argv: Sequence[str]) -> str | None:
    """The argument `resume=DIRECTORY`, if there is one; `resume=null` is none."""
    return next((text for text in argv if text.startswith("resume=") and text != "resume=null"), None)


def startable(spec: Spec, directory: Path, multirun: bool) -> None:
    """A new run has one length, and its directory holds no run, or in a multirun the same one."""
    if spec["budget"] is not None and spec["steps"] is not None:
        raise UserError(f"budget={spec['budget']} and steps={spec['steps']} both set the length; give one of them")
    for group, switch, part in () if multirun else SWITCHES:  # an arm of a multirun may be without
        changed = [key for key, value in vars(part()).items() if spec[group][key] != value]
        if changed and spec[group][switch] is None:
            setting = f"{group}.{changed[0]}={spec[group][changed[0]]}"
            raise UserError(f"{setting} has no effect without {group}.{switch}; set that, too")
    if multirun and spec["trainer"]["devices"] * spec["trainer"]["num_nodes"] > 1:
        raise UserError(
            "a job of a sweep is trained by one process; use trainer.devices=1 and trainer.num_nodes=1, "
            "and hydra/launcher=joblib for several jobs at once"
        )
    file = begun(directory)
    if file and multirun:
        same_run(spec, directory)
    elif file and not is_helper():
        with held(directory):
            remedy = "" if look(directory).state == "done" else f"continue it with resume={directory}, or "
            raise UserError(
                f"{directory} holds a run already ({file}); {remedy}choose another directory with hydra.run.dir=PATH"
            )


SWITCHES = (("distill", "teacher", Distill), ("early_stopping", "patience", EarlyStopping))
CHECKPOINTS = ("last.ckpt", "previous.ckpt")
RUN = ("summary.json", "checkpoints/last.ckpt", ".hydra/config.yaml")


def begun(directory: Path, names: Sequence[str] = RUN) -> Path | None:
    """A file of the run that a directory holds, or None: what a killed command left before its first file is no run."""
    files = (directory / name for name in names)
    return next((file for file in files if file.is_file() and file.stat().st_size), None)


def same_run(spec: Spec, directory: Path) -> None:
    """A job of a multirun goes on with its own configuration only; one without a checkpoint or scores starts anew.

    Raises:
        Differs: the run in its directory has another configuration.
        Unusable: what lies there is damaged.
    """
    here, done = make_paths_absolute(spec), look(directory).state == "done"
    saved = begun(directory / "checkpoints", CHECKPOINTS)
    if not (saved or done):
        return
    try:
        own = load_run_config(directory)
        if saved and not isinstance(read_json(directory / "summary.json").get("steps"), int):
            raise UserError(f"{directory / 'summary.json'} cannot be read (it has no number of steps)")
    except UserError as error:
        raise Unusable(f"{error}; delete {directory} to train this job from its beginning") from None
    if not same_place(own["data"], here["data"]):
        raise Differs(f"{directory} holds a run with data.root={own['data']['root']}, not {here['data']['root']}")
    for key in dotted_keys(here):
        there, value = get_value(own, key), get_value(here, key)
        if not changeable(key) and not isinstance(value, dict) and there != value:
            raise Differs(f"{directory} holds a run with {key}={there}, not {value}")


def continued(resume: str, argv: list[str]) -> tuple[Callable[[Spec], Spec], list[str]]:
    """`resume=DIR` and all arguments -> what continues that run.

    One that is done is lengthened by `epochs` or `steps`: from the step reached on, the schedule is that of a run which
    has this length from the beginning. A budget, its clock and early stopping then no longer end it.

    Returns:
        A function that takes the composed configuration and returns the run's own with the settings given now; and the
        arguments that run in its directory.

    Raises:
        UserError: there is no such run, it is done, or a setting that cannot change.
    """
    args, settings, flags = arguments([text for text in argv if text != resume])
    longer = [key for key in (parse_override(text).key_or_group for text in settings) if key in LENGTHS]
    directory = run_directory(resume, lengthen=bool(longer))
    if args.multirun:
        raise UserError(f"{resume} continues one run; leave out -m")
    if not os.access(directory, os.W_OK):
        raise UserError(f"{directory} cannot be written; resume a copy of it")
    keys = [key for text in settings for key in keys_set(text)]
    for key in keys:
        if not changeable(key) and key not in longer and not (is_helper() and key.startswith("hydra.")):
            raise UserError(
                f"{key} cannot change when a run continues, only {WORDS} can; leave out resume to start a new run"
            )
    own = load_run_config(directory)
    own["trainer"]["max_time"] = None  # where it stopped before is not where it ends

    def merged(spec: Spec) -> Spec:
        for key in (key for key in keys if not key.startswith("hydra.")):
            parent, _, last = key.rpartition(".")
            (get_value(own, parent) if parent else own)[last] = get_value(spec, key)
        if longer and not is_helper():
            check_longer(spec, longer, directory)
        if longer:
            own.update(budget=None, budget_by="steps", steps=spec["steps"])
            own["early_stopping"]["patience"] = None
        whole = make_paths_absolute(own)
        check_values(whole)
        return whole

    # The settings are checked with the data of the run.
    root = own["data"]["root"]
    data = [f"data.source={own['data']['source']}", f"data.root={'null' if root is None else quote(root)}"]
    settings = [*data, *settings]
    there = [f"resume={quote(directory)}", f"hydra.run.dir={quote(directory)}", "hydra.output_subdir=null"]
    return merged, [*flags, *settings, *there]


def keys_set(text: str) -> list[str]:
    """The keys that a setting changes: `trainer={max_time: 1h}` changes trainer.max_time alone."""
    override = parse_override(text)
    key, value = override.key_or_group, override.value()
    if not isinstance(value, dict):
        return [key]
    below = dotted_keys(value, f"{key}.")
    return [name for name in below if not any(other.startswith(f"{name}.") for other in below)]


def check_longer(spec: Spec, keys: list[str], directory: Path) -> None:
    """A run is lengthened: to no more than it has is an error."""
    made = read_json(directory / "summary.json")
    for key in keys:
        if spec[key] is None or spec[key] <= made.get(key, 0):
            raise UserError(
                f"{key}={spec[key]} is not longer than {directory}, which has {made.get(key, 0):g} {key}; "
                "give more, or leave out resume to start a new run"
            )


def lengthening(spec: Spec, directory: Path) -> dict[str, Any]:
    """What a training is given besides if its run is done already: it notes its new length when it starts."""
    return {"started": lambda: save_run_config(spec, directory)} if look(directory).state == "done" else {}


def run_directory(resume: str, *, lengthen: bool = False) -> Path:
    """The directory that `resume=` names, if it holds a run that is not done; one without a checkpoint starts anew.

    To `lengthen` one that is done, it needs its checkpoint.
    """
    text = resume.removeprefix("resume=")
    directory = Path(str(parse_override(resume).value()) if text.startswith(("'", '"')) else text)
    directory = expanded(directory).absolute()
    load_run_config(directory)
    summary = directory / "summary.json"
    done = summary.exists() and read_json(summary, "leave out resume to start a new run").get("state") == "done"
    if done and not lengthen:
        raise UserError(
            f"{directory} is done: its scores are in {summary}; leave out resume to start a new run, "
            "or add epochs=N or steps=N, more than it has, to lengthen it"
        )
    if lengthen and not done and not is_helper():
        raise UserError(f"{directory} is not done; continue it to its end without another length, then lengthen it")
    if lengthen and not begun(directory / "checkpoints", CHECKPOINTS):
        raise UserError(f"{directory} cannot be lengthened: there is no checkpoint in it any more; start a new run")
    return directory
