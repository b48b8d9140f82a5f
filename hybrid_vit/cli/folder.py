"""The folder of a sweep: its record of what the sweep compares, and how the same command finds it again.

sweep.json      what varies, and the settings that all jobs share
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hybrid_vit.config.changeable import below, changeable
from hybrid_vit.config.compose import Spec, dotted_keys, get_value, parse_override
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import read_json
from hybrid_vit.utils.paths import images_place

RECORD = "sweep.json"


def purpose(cfg: DictConfig, settings: Sequence[str]) -> Spec:
    """What a sweep compares: the keys `varied`, of which each job has its own value, and the `settings` that all share.

    Args:
        cfg: composed from the settings with one value, and the first option of groups with several.
        settings: of the command line.
    """
    several = [override.get_key_element() for override in map(parse_override, settings) if override.is_sweep_override()]
    varied = sorted({*cfg.hydra.sweeper.params, *several})
    own = [key.strip("+").rpartition("@")[2].replace("/", ".") for key in varied]
    tree: Any = OmegaConf.to_container(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))
    shared = [key for key in dotted_keys(tree) if not isinstance(get_value(tree, key), dict) and not changeable(key)]
    values = {key: get_value(tree, key) for key in shared if not below(key, own)}
    data = tree.get("data", {})
    if "data.root" not in own and (there := images_place(data.get("source"), data.get("root"))) is not None:
        values["data.root"] = there
    return {"sweep": cfg.hydra.runtime.choices.get("sweep"), "varied": varied, "settings": values}


def candidates(place: Path, own: Spec) -> Iterator[tuple[Path, str]]:
    """The folders that a sweep may have, best first, each with the reason why it is not `place`, if it is not.

    First come those with the same record, so that the same command finds its folder again, then a new one. A `place`
    without a record, such as one of an older version, may also be the sweep's own: its runs decide.

    Args:
        place: the folder with the name of the sweep.
        own: its `purpose`.
    """
    pattern = re.compile(re.escape(place.name) + r"_(\d+)")
    others = [path for path in place.parent.glob("*") if pattern.fullmatch(path.name) and (path / RECORD).exists()]
    why = ""
    for folder in [*filter(Path.exists, [place]), *sorted(others, key=lambda path: int(path.name.rpartition("_")[2]))]:
        difference = other_purpose(folder, own) if (folder / RECORD).exists() else None
        if difference is None:
            yield folder, why
        elif not why:
            why = f"{folder} is of {difference}"
    yield unused(place), why


def unused(place: Path) -> Path:
    """`place`, or the first of place_2, place_3, ... that does not exist."""
    numbered = (place.with_name(f"{place.name}_{number}") for number in itertools.count(2))
    return next(path for path in itertools.chain([place], numbered) if not path.exists())


def other_purpose(folder: Path, own: Spec) -> str | None:
    """How the sweep of a folder differs from `own`: 'a sweep with epochs=1, not 200'; None if it does not.

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
    for key in (key for key in own["settings"] if own["settings"][key] is None and has_part(settings, key)):
        return f"a sweep with {key}, not without it"
    for key in (key for key in settings if settings[key] is None and has_part(own["settings"], key)):
        return f"a sweep without {key}, not with it"
    # A key that one of the two lacks is of another part, which differs in more, or of another version of this package.
    for key in filter(settings.__contains__, own["settings"]):
        if settings[key] != own["settings"][key]:
            return f"a sweep with {key}={settings[key]}, not {own['settings'][key]}"
    return None


def has_part(settings: Spec, key: str) -> bool:
    """Whether dotted `settings` have keys below `key`."""
    return any(name != key and below(name, [key]) for name in settings)
