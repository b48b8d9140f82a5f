"""The configuration of a run, saved beside it and read again, by this version or a later one."""

import copy
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from hybrid_vit.config import schema
from hybrid_vit.config.compose import Spec, get_value, resolve
from hybrid_vit.utils.errors import UserError, first_lines
from hybrid_vit.utils.files import write_text
from hybrid_vit.utils.paths import expanded

# ${key}, ${a.b}, ${..key}, and our own functions; ${oc.env:...} is not among them
OWN_REFERENCE = re.compile(r"\$\{(?:[\w.@/-]*\}|(?:hydra|sweep_name|now|either|options):)")


def read_config(folder: Path) -> DictConfig:
    """The config.yaml in a folder, with the hydra.yaml beside it, if there is one, under `hydra`.

    A configuration may come from a stranger: it may refer to its own keys, and to nothing else.

    Raises:
        UserError: it is missing, empty, damaged or not a configuration, or a value refers to the environment.
    """
    path = folder / "config.yaml"
    try:
        cfg: Any = OmegaConf.load(path)
        if isinstance(cfg, DictConfig) and cfg and (folder / "hydra.yaml").is_file():
            cfg.hydra = OmegaConf.load(folder / "hydra.yaml").hydra
        if not isinstance(cfg, DictConfig) or not cfg:
            raise UserError("it is empty or not a configuration")
        content = OmegaConf.to_container(cfg, resolve=False)
    except (OSError, ValueError, AttributeError, OmegaConfBaseException, YAMLError) as error:
        raise UserError(f"{path} cannot be read ({first_lines(error)}); copy it again from the original") from None
    for text in find_texts(content):
        for start in re.finditer(r"\$\{", text):
            if not OWN_REFERENCE.match(text, start.start()):
                raise UserError(f"{path} refers to what is outside of it ({text}); write the value there instead")
    return cfg


def find_texts(tree: Any) -> Iterator[str]:
    """All texts in nested dictionaries and lists."""
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict | list):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from find_texts(item)


def load_run_config(directory: Path) -> Spec:
    """The configuration that a run was started with; keys that are newer than the run have their defaults.

    Raises:
        UserError: `directory` does not hold a run, or one whose configuration this version cannot read.
    """
    folder = directory / ".hydra"
    if not (folder / "config.yaml").is_file():
        if directory.is_file():
            raise UserError(f"{directory} is a file; give the directory of its run")
        what = "is not the directory of a run" if directory.is_dir() else "does not exist"
        raise UserError(f"{directory} {what} (no {folder}/config.yaml); runs are under outputs/runs and outputs/sweeps")
    own = read_config(folder)
    hydra = own.pop("hydra", None)
    try:
        cfg = OmegaConf.merge(OmegaConf.structured(schema.Train), own)
        with open_dict(cfg):
            cfg.hydra = hydra or {}
        assert isinstance(cfg, DictConfig)
        return resolve(cfg)
    except (UserError, OmegaConfBaseException) as error:
        raise UserError(
            f"{folder / 'config.yaml'} is damaged or of another version: {first_lines(error, 2)}"
        ) from error


def save_run_config(spec: Spec, directory: Path) -> None:
    """Write the configuration of a run into its directory, as `load_run_config` reads it: whole and resolved."""
    folder = directory / ".hydra"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(spec)))


def make_paths_absolute(spec: Spec) -> Spec:
    """`spec` with paths that do not depend on the folder in which a command is started; names of runs stay names."""
    spec = copy.deepcopy(spec)
    for key in ("data.root", "init_from", "distill.teacher"):
        parent, _, last = key.rpartition(".")
        node, value = get_value(spec, parent) if parent else spec, get_value(spec, key)
        if value is not None and (key == "data.root" or (expanded(value) / "model.json").is_file()):
            node[last] = str(expanded(value).absolute())
    return spec


def load_recorded_config(directory: Path) -> Spec:
    """The configuration of a run or a published run, to be compared with others; it may be of an older version.

    Keys that are newer than the run have their defaults, those that this version no longer has stay.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    cfg = read_config(directory / ".hydra" if (directory / ".hydra").is_dir() else directory)
    spec = add_defaults(resolve(cfg))
    base = defaults(schema.Train) | {"data": defaults(schema.Data), "optim": defaults(schema.Optim)}
    parts = {key: base[key] | spec[key] for key in spec if isinstance(base.get(key), dict)}
    return base | spec | parts


def add_defaults(spec: Any) -> Any:
    """Nested dictionaries, with the defaults of those whose `_target_` has a schema."""
    if not isinstance(spec, dict):
        return spec
    kind = schema.PARTS.get(spec.get("_target_"))
    return (defaults(kind) if kind else {}) | {key: add_defaults(spec[key]) for key in spec}


@functools.cache
def defaults(kind: type) -> Spec:
    """The values that a schema states, without those that are missing or refer to others; not to be changed."""
    tree: Any = OmegaConf.to_container(OmegaConf.structured(kind))
    return {key: value for key, value in tree.items() if not (isinstance(value, str) and value[:2] in ("??", "${"))}
