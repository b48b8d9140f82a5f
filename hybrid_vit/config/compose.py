"""Composition with Hydra: the files of `conf/` and what a user sets -> one plain dictionary, or one clear sentence.

Nothing here imports torch, so that a wrong key is answered at once.
"""

import difflib
import functools
import os
import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import MISSING, DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from hybrid_vit.config import schema
from hybrid_vit.config.start import start_from
from hybrid_vit.utils.errors import UserError, first_lines
from hybrid_vit.utils.extras import installing
from hybrid_vit.utils.paths import CONF

Spec = dict[str, Any]

FOLDERS = [CONF]  # in which the groups lie; `look_in` changes it
WHOLE = ("experiment", "sweep", "debug")  # groups of whole configurations
PATHS = ("data.root", "resume", "run", "out", "init_from", "distill.teacher", "hydra.run.dir", "hydra.sweep.dir")
TEXTS = ("title", "command", "reference")  # taken as they are, whatever is in them
COMMAS = 20  # at most, in the name of a job of a sweep
EXAMPLES = {"data.root": "/path/to/pictures", "run": "outputs/runs/NAME"}
TYPES = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
# What other tools call a setting, by the last part of its name.
SYNONYMS = {
    **dict.fromkeys(("max_epochs", "num_epochs", "n_epochs"), "epochs"),
    **dict.fromkeys(("max_steps", "num_steps"), "steps"),
    **{"fast_dev_run": "debug=fast", "overfit_batches": "debug=overfit"},
    **dict.fromkeys(("learning_rate", "base_lr", "max_lr"), "optim.lr"),
    **dict.fromkeys(("bs", "batch"), "batch_size"),
    **dict.fromkeys(("gpus", "gpu", "cuda", "num_gpus"), "accelerator=gpu trainer.devices"),
    **dict.fromkeys(("workers", "n_workers"), "data.num_workers"),
    **dict.fromkeys(("gradient_clip_val", "grad_clip", "max_norm"), "optim.clip_norm"),
    **dict.fromkeys(("wd", "decay_rate"), "optim.weight_decay"),
    **dict.fromkeys(("ckpt", "ckpt_path", "checkpoint"), "resume"),
    **dict.fromkeys(("amp", "dtype", "fp16", "bf16"), "accelerator.precision"),
    **dict.fromkeys(("arch", "net", "network"), "model"),
    "dataset": "data",
    "data_dir": "data.root",
    "img_size": "data.image_size",
}
SEE = "`--help` shows the common keys, `--cfg job` all of them"


def compose_config(overrides: list[str], name: str = "train") -> DictConfig:
    """The configuration that these overrides describe, with Hydra's own under `hydra`.

    Hydra composes the groups, and the values are set as Hydra would set them: one composition serves many values.

    Raises:
        UserError: a sentence that names the override and the remedy.
    """
    groups: list[Override] = []
    values: list[Override] = []
    for override in map(parse_override, overrides):
        if override.is_sweep_override():
            raise UserError(f"{override.input_line} has several values, for a sweep; give one of them here")
        (groups if is_choice(override) else values).append(override)
    # A group inside another, such as stem@model.stem, is known once the outer one is chosen.
    outer = tuple(check_choice(override, compose_groups(name)) for override in groups if override.package is None)
    inner = tuple(
        check_choice(override, compose_groups(name, outer)) for override in groups if override.package is not None
    )
    cfg = pickle.loads(pickled_groups(name, outer + inner))
    cfg.hydra.job.name, cfg.hydra.runtime.cwd = name, os.getcwd()
    given = [override.value() for override in values if override.key_or_group == "init_from"]
    if run := (given or [cfg.get("init_from")])[-1]:
        files = [] if given else chosen_files(cfg)  # one of them names the run, so what they set comes after it
        start_from(cfg, str(run), model=not chooses_model(groups, files), files=files)
    tree: Any = None
    for override in values:
        tree = tree or OmegaConf.to_container(cfg, resolve=False)
        set_value(cfg, override, tree)
        if override.is_hydra_override() or isinstance(override.value(), dict | None):  # there may be other keys now
            tree = None
    for kind in ("hydra", "task"):
        same = [each for each in groups + values if each.is_hydra_override() == (kind == "hydra")]
        cfg.hydra.overrides[kind] = [each.input_line for each in same]
    how = cfg.hydra.job.config.override_dirname
    named = sorted(text for text in task_settings(cfg) if text.partition("=")[0] not in how.exclude_keys)
    cfg.hydra.job.override_dirname = how.item_sep.join(named).replace("=", how.kv_sep)
    handlers = cfg.hydra.job_logging.get("handlers", {})
    if "class" not in handlers.get("file", {"class": None}):  # hydra/job_logging=stdout has no file to write
        with open_dict(cfg.hydra.job_logging):
            del handlers["file"]
    return cfg


def task_settings(cfg: DictConfig) -> list[str]:
    """The settings of a configuration but for those of Hydra, as they are written."""
    written: Any = OmegaConf.to_container(cfg.hydra.overrides.task, resolve=False)
    return written


def chosen_files(cfg: DictConfig) -> list[Spec]:
    """The chosen experiment, sweep and the like, as they are written, from the one on that names the run of init_from.

    Each comes after those before it, as in the configuration.
    """
    chosen = [f"{key}/{option}.yaml" for key, option in cfg.hydra.runtime.choices.items() if key not in cfg]
    found = (next((folder / name for folder in FOLDERS if (folder / name).is_file()), None) for name in chosen[::-1])
    files: list[Any] = [OmegaConf.to_container(OmegaConf.load(path)) for path in found if path]
    naming = [index for index, file in enumerate(files) if "init_from" in file]
    return files[naming[-1] :] if naming else []


def is_choice(override: Override) -> bool:
    """Whether it chooses an option of a group."""
    return is_group(override.key_or_group) and not isinstance(override.value(), dict)


def chooses_model(overrides: Sequence[Override], files: Sequence[Spec]) -> bool:
    """Whether a setting or a file chooses the model, or a part of it such as stem@model.stem."""
    set_here = any("model" in (each.key_or_group, (each.package or "").partition(".")[0]) for each in overrides)
    parts = [str(part) for file in files for part in file.get("defaults", ())]
    return set_here or any(re.search(r"override /(model\b|\S+@model\b)", part) for part in parts)


def look_in(folder: str | None) -> None:
    """From now on the groups are looked for in `conf/` and in `folder`, if it names one.

    Raises:
        UserError: it is not there.
    """
    if folder and not Path(folder).is_dir():
        raise UserError(f"--config-dir {folder} is not a folder; give one that holds groups, like conf/")
    folders = [CONF, Path(folder).absolute()] if folder else [CONF]
    if folders != FOLDERS:
        FOLDERS[:] = folders
        for cached in (compose_groups, pickled_groups, is_group):
            cached.cache_clear()


@contextmanager
def initialized() -> Iterator[None]:
    """Hydra knows `conf/` and the schemas; what it knew before comes back afterwards."""
    schema.register()
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = before


@functools.cache
def config_loader() -> ConfigLoader:
    """Hydra's reader of `conf/`."""
    with initialized():
        return GlobalHydra.instance().config_loader()


@functools.cache
def compose_groups(name: str, groups: tuple[str, ...] = ()) -> DictConfig:
    """What the choice of groups alone composes; to be copied, never changed."""
    added = [f"hydra.searchpath=[{quote(f'file://{folder}')}]" for folder in FOLDERS[1:]]
    try:
        with initialized():
            return compose(name, [*groups, *added], return_hydra_config=True)
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(first_lines(error, 2)) from error


@functools.cache
def pickled_groups(name: str, groups: tuple[str, ...]) -> bytes:
    """The same, to be read again for each copy: four times as fast as copy.deepcopy."""
    return pickle.dumps(compose_groups(name, groups))


@functools.cache
def is_group(key: str) -> bool:
    """Whether `key` names a group with something to choose, Hydra's own included."""
    own = key.partition("/")[0] in ("hydra", "schema")
    return bool(options(key) or (own and config_loader().get_group_options(key)))


def options(group: str) -> list[str]:
    """What can be chosen in a group: its files."""
    places = [folder / group for folder in FOLDERS]
    files = [(place, file) for place in places for file in (*place.glob("*.yaml"), *place.glob("[!.]*/*.yaml"))]
    return sorted({file.relative_to(place).with_suffix("").as_posix() for place, file in files})


def sweep_name() -> str | None:
    """The sweep that a run belongs to: WANDB_RUN_GROUP, else what the folder of its multirun is called, or None."""
    cfg = HydraConfig.get()
    return os.environ.get("WANDB_RUN_GROUP") or (Path(cfg.sweep.dir).name if cfg.mode == RunMode.MULTIRUN else None)


OmegaConf.register_new_resolver("options", lambda group: ", ".join(options(group)), replace=True)  # for --help
OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)
OmegaConf.register_new_resolver("either", lambda *values: next(filter(None, values)), replace=True)


def choices(cfg: DictConfig) -> list[str]:
    """The groups that a choice was made in, as they are written on the command line."""
    return [str(key) for key in cfg.hydra.runtime.choices if not str(key).startswith("hydra/")]


def parse_override(text: str) -> Override:
    """One argument, as Hydra's grammar reads it."""
    key, equals, value = text.partition("=")
    try:
        override = OverridesParser.create(config_loader()).parse_overrides([quote_free_text(text)])[0]
    except HydraException as error:
        if not equals and re.fullmatch(r"[A-Za-z_][\w.@/]*", key) and not os.path.exists(key):
            remedy = f"it has no value: write {key}=VALUE"
        elif not equals or key.split() != [key]:
            remedy = "write key=value, e.g. model.depth=6"
        elif value.endswith(",") or value.count("[") != value.count("]"):
            remedy = "a space splits a setting: write it without spaces, or quote the whole argument"
        elif value.startswith("["):
            remedy = f"the value cannot be read; quote each text in the list: \"{key}=['A','B']\""
        else:
            remedy = f"the value cannot be read; if it is a text, quote it twice: \"{key}='{value}'\""
        raise UserError(f"{text!r} is not a setting; {remedy}") from error
    if not key:
        raise UserError(f"{text!r} is not a setting; write key=value, e.g. model.depth=6")
    return override


def quote_free_text(text: str) -> str:
    """An argument whose value is a free text, a path or a list of jobs of a sweep, quoted.

    So it may hold commas, spaces or '='. A path is one that exists, or a new one with letters that are not ASCII.
    """
    key, _, value = text.partition("=")
    if key in PATHS and re.search("(^|,)~", value):  # the shell leaves it, as behind data.root=
        whole = os.path.expanduser(value)
        if os.path.exists(whole):
            return f"{key}={quote(whole)}"
        if not re.search(r"['\"()\[\]{}]", value):
            return f"{key}={','.join(quote(os.path.expanduser(part)) for part in value.split(','))}"
    if not value or value[0] in "'\"":
        return text
    if key in ("run", "runs") and "=" in value and (jobs := existing(value.strip("[]"))):
        listed = ",".join(map(quote, jobs))  # of a sweep, which are called KEY=VALUE
        return f"{key}=[{listed}]" if value[0] == "[" else f"{key}={listed}"
    # The grammar refuses letters that are not ASCII.
    path = key in PATHS and (os.path.exists(value) or not (value.isascii() or re.search(r"['\"()\[\]{},]", value)))
    return f"{key}={quote(value)}" if path or key in TEXTS else text


def existing(value: str) -> list[str]:
    """The paths that a text with commas lists, in whose names there may be commas, too; empty if it lists none."""
    found: list[str] = []
    rest = [] if value[:1] in ("'", '"') else value.split(",")
    while rest:
        longest = range(min(len(rest), COMMAS + 1), 0, -1)
        count = next((n for n in longest if os.path.exists(",".join(rest[:n]).strip())), 0)
        if not count:
            return []
        found.append(",".join(rest[:count]).strip())
        rest = rest[count:]
    return found


def quote(text: str | Path) -> str:
    """Hydra's grammar reads this as `text`, whatever is in it."""
    return QuotedString(str(text), Quote.single).with_quotes()


def check_choice(override: Override, cfg: DictConfig) -> str:
    """The choice of an option, if `cfg` has such a group and the group such an option."""
    text, key, group = str(override.input_line), override.get_key_element(), override.key_or_group
    if override.is_hydra_override():
        launchers = sorted(set(config_loader().get_group_options("hydra/launcher")))
        if group == "hydra/launcher" and override.value() not in launchers:
            more = f"{installing('sweeps')} adds joblib, ray and submitit_slurm"
            raise UserError(f"{text} is not there; {group} is one of {', '.join(launchers)}; {more}")
        return text
    known, there = choices(cfg), options(group)
    if key.startswith("~") or (key.startswith("+") and key.strip("+") in known):
        raise UserError(f"{text}: write {key.strip('~+')}=OPTION; {group} is always one of {', '.join(there)}")
    if not key.startswith("+") and key not in known:
        parts = ", ".join(f"{key}.{part}" for part in cfg[key]) if isinstance(cfg.get(key), DictConfig) else ""
        hint = f"set {parts}" if parts else suggest(key, known) or SEE
        raise UserError(f"{text} selects nothing: this command has no group {key}; {hint}")
    if override.value() not in there:
        hint = suggest(str(override.value()), there)
        raise UserError(f"{text} does not exist; {hint}{' ' if hint else ''}{group} is one of {', '.join(there)}")
    return text


def set_value(cfg: DictConfig, override: Override, tree: dict[str, Any]) -> None:
    """Set one value in `cfg`; a key that is not there, or a value of another type, is an error.

    Args:
        tree: `cfg` as dictionaries, at least its keys.
    """
    text, key, value = str(override.input_line), override.key_or_group, override.value()
    tree = {name: node for name, node in tree.items() if (name == "hydra") == override.is_hydra_override()}
    known = dotted_keys(tree)
    if override.get_key_element() != key:
        if override.is_hydra_override() and not override.is_delete():  # Hydra's own configuration is open
            try:
                OmegaConf.update(cfg, key, value, merge=True, force_add=True)
            except OmegaConfBaseException as error:
                raise UserError(f"{text}: {first_lines(error)}") from error
            return
        remedy = f"write {key}=VALUE" if key in known else suggest(key, known)
        raise UserError(f"{text}: keys are typed, none can be added or removed; {remedy or SEE}")
    if key not in known:
        raise UserError(f"{key} is not a key; {suggest(key, [*choices(cfg), *known]) or SEE}")
    default = functools.reduce(lambda node, part: node[part], key.split("."), tree)
    if isinstance(default, dict) and not isinstance(value, dict | None):
        if is_group(group := key.replace(".", "/")):
            raise UserError(f"{text}: write {group}={value}")
        parts = ", ".join(f"{key}.{part}" for part in default)
        if "_target_" in default and not any(key in choice.split("@") for choice in choices(cfg)):
            raise UserError(f"{text}: {key} has keys of its own; write {key}=null for none, or set one of {parts}")
        raise UserError(f"{text}: {key} holds several keys; {suggest(key, choices(cfg)) or f'set one of {parts}'}")
    try:
        # Another transform has other arguments.
        other = key.startswith("augment.") and isinstance(value, dict) and "_target_" in value
        OmegaConf.update(cfg, key, value, merge=not other)
    except OmegaConfBaseException as error:
        line = first_lines(error)
        kind = TYPES.get(line.rpartition(" ")[2])
        wrong = f"{key} must have a value" if value is None else f"{value!r} is not {kind}" if kind else line
        if kind == TYPES["Integer"] and isinstance(value, float) and value.is_integer():
            wrong = f"write {key}={int(value)}"
        hint = "" if default is None or isinstance(default, dict) else f"; the default is {key}={default}"
        raise UserError(f"{text}: {wrong}{hint}") from error


def dotted_keys(tree: Any, prefix: str = "") -> list[str]:
    """All dotted keys of nested dictionaries."""
    if not isinstance(tree, dict):
        return []
    return [name for key, value in tree.items() for name in (f"{prefix}{key}", *dotted_keys(value, f"{prefix}{key}."))]


def suggest(key: str, known: list[str]) -> str:
    """'did you mean ...?' with the names that `key` may stand for, the setting for another tool's name, or nothing."""
    key = key.replace("/", ".")
    synonym = SYNONYMS.get(key.rpartition(".")[2], "")
    if synonym.split("=")[0] in known:
        return f"write {synonym}" if synonym.startswith("debug=") else f"write {synonym}=VALUE"
    same = [name for name in known if key in name.split("@") or name.endswith(f".{key}")]
    near = same or difflib.get_close_matches(key, known, n=1)
    return f"did you mean {' or '.join(near)}?" if near else ""


def resolve(cfg: DictConfig) -> Spec:
    """Resolved, as dictionaries, lists and numbers, without Hydra's own; what is below the commands sees only this.

    Raises:
        UserError: a value that is missing, or that refers to a key that is not there.
    """
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    tree.pop("hydra", None)
    for key in sorted(key for key in dotted_keys(tree) if get_value(tree, key) == MISSING):
        raise UserError(f"{key} is missing; add {key}={EXAMPLES.get(key, 'VALUE')}")
    with resolving(cfg):
        return {
            key: OmegaConf.to_container(value, resolve=True, throw_on_missing=True)
            if OmegaConf.is_config(value := cfg[key])
            else value
            for key in tree
        }


def as_yaml(cfg: DictConfig, *, resolved: bool) -> str:
    """A configuration without Hydra's own."""
    with resolving(cfg):
        return OmegaConf.to_yaml(
            OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]), resolve=resolved
        )


def as_train(spec: Spec) -> schema.Train:
    """The configuration of a training with attributes instead of keys; `model` and `augment` stay dictionaries."""
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema.Train), spec))
    assert isinstance(config, schema.Train)
    return config


@contextmanager
def resolving(cfg: DictConfig) -> Iterator[None]:
    """Within, `${hydra:...}` means the `hydra` of `cfg`, if it has one, and what cannot be resolved is a sentence."""
    setup_globals()
    instance = HydraConfig.instance()
    before = instance.cfg
    instance.cfg = cfg if "hydra" in cfg else before  # type: ignore[assignment]
    try:
        yield
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {first_lines(error)}; {SEE}") from error
    finally:
        instance.cfg = before


def format_experiment(cfg: DictConfig, comment: str) -> str:
    """The configuration of a run as an experiment file: its parts, and the values that differ from theirs."""
    parts = {key: cfg.hydra.runtime.choices[key] for key in choices(cfg) if key not in WHOLE}
    # The model of init_from is no option, and comes from there; options of --config-dir may not be there any more.
    parts = {
        key: option for key, option in parts.items() if (CONF / key.partition("@")[0] / f"{option}.yaml").is_file()
    }
    run = cfg.get("init_from")
    settings = [*map(parse_override, task_settings(cfg))]
    files = [] if any(each.key_or_group == "init_from" for each in settings) else chosen_files(cfg)
    if run and not chooses_model([each for each in settings if is_choice(each)], files):
        parts = {key: option for key, option in parts.items() if "model" not in key}
    source = [f"init_from={quote(run)}"] if run else []
    trees: list[Any] = [
        OmegaConf.to_container(tree, resolve=False)
        for tree in (cfg, compose_config([*(f"{key}={option}" for key, option in parts.items()), *source]))
    ]
    for tree in trees:
        del tree["hydra"]
    content = {"defaults": [{f"override /{key}": option} for key, option in parts.items()]}
    content |= ({"init_from": run} if run else {}) | find_differences(*trees)
    return f"# @package _global_\n{comment}\n{OmegaConf.to_yaml(OmegaConf.create(content))}"


def find_differences(tree: Any, other: Any) -> Spec:
    """The part of nested dictionaries that is not the same in others."""
    pairs = {key: (value, other.get(key)) for key, value in tree.items() if value != other.get(key, ...)}
    return {
        key: find_differences(a, b) if isinstance(a, dict) and isinstance(b, dict) else a
        for key, (a, b) in pairs.items()
    }


def get_value(spec: Spec, key: str) -> Any:
    """The value of a dotted key, or None."""
    for part in key.split("."):
        spec = spec.get(part) if isinstance(spec, dict) else None  # type: ignore[assignment]
    return spec
