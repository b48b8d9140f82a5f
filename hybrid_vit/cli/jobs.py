"""The settings of a multirun -> its jobs: for each a name, its own settings and a directory."""

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.core.override_parser.types import Glob, Override

from hybrid_vit.config.compose import options, parse_override, quote
from hybrid_vit.utils.errors import UserError

LONGEST_NAME = 150  # of a directory, in bytes; file systems allow 255


@dataclass(frozen=True)
class Planned:
    """A job of a sweep: its name, its settings, its run directory, and why that cannot be used."""

    name: str
    settings: list[str]
    directory: Path
    fault: str = ""


class Differs(UserError):
    """The directory of a job holds a run with another configuration."""


class Unusable(UserError):
    """The directory of a job is damaged; the other jobs of the sweep can go on."""


def jobs(
    settings: Sequence[str],
    params: Mapping[str, str] | None = None,
    arms: Mapping[str, Sequence[str]] | None = None,
    only: Sequence[str] | None = None,
) -> Iterator[tuple[str, list[str]]]:
    """The name and the settings of each job: every arm with every combination of values, the first varying slowest.

    Args:
        settings: of the command line, some perhaps with several values; they replace `params` of the same key.
        params: key -> values; they are part of the name, as all settings with several values are.
        arms: name -> settings.
        only: these of the arms.

    Raises:
        UserError: an interval, which is not a list of values; an unknown arm; a setting that every arm replaces.
    """
    params, arms = params or {}, arms or {}
    for arm in only or ():
        if arm not in arms:
            raise UserError(f"hydra.sweeper.only: {arm} is not one of {', '.join(arms) or 'them: there are no arms'}")
    chosen_arms = {arm: arms[arm] for arm in only or arms}
    of_arms = [{parse_override(text).get_key_element() for text in own} for own in chosen_arms.values()]
    for text in settings:
        key = parse_override(text).get_key_element()
        if of_arms and all(key in keys for keys in of_arms):
            raise UserError(f"{text} has no effect: every arm of this sweep sets {key}; leave it out")
    lists: dict[str, list[str]] = {}
    named = {*params}
    for override in map(parse_override, [*(f"{key}={values}" for key, values in params.items()), *settings]):
        key = override.get_key_element()
        if override.is_interval_sweep():
            raise UserError(f"{override.input_line} has no end; write {key}=A,B,C or {key}=range(FROM,TO,STEP)")
        lists[key] = [str(override.input_line)]
        if override.is_sweep_override():
            if override.is_hydra_override():
                raise UserError(f"{override.input_line} has several values; a setting of Hydra has one")
            named.add(key)
            lists[key] = each_value(override)
            if not lists[key]:
                raise UserError(f"{override.input_line} has no value, so there is nothing to run")
    names: set[str] = set()
    for values in itertools.product(*lists.values()):
        said = [value for key, value in zip(lists, values, strict=True) if key in named]
        for arm, of_arm in chosen_arms.items() or [("", ())]:
            own = [f"name={quote(arm)}"] if arm and "name" not in lists else []
            name = file_name(",".join(filter(None, [arm, *said])))
            if name not in names:  # seed=0,0 is one job
                names.add(name)
                yield name, [*values, *of_arm, *own]


def each_value(override: Override) -> list[str]:
    """The settings that one with several values stands for."""
    chosen = override.value()
    # Hydra's own globs look into conf/ alone, not into the folder of --config-dir.
    if isinstance(chosen, Glob):
        found = chosen.filter(options(override.key_or_group))
    else:
        found = [*override.sweep_string_iterator()]
    return [f"{override.get_key_element()}={value}" for value in found]


def file_name(text: str) -> str:
    """`text` as the name of a directory; a name in which characters are replaced or cut ends in a hash of `text`."""
    name = re.sub(r"[^\w.,=@+-]+", "_", text).encode()[:LONGEST_NAME].decode(errors="ignore") or "job"
    return name if name == text or not text else f"{name}-{hashlib.sha1(text.encode()).hexdigest()[:8]}"
