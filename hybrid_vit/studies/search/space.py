"""A space: training settings, each with its choices or its range, as in `conf/search` -> Optuna's distributions.

What can be known of a search's directory without Optuna is here, too, so that a wrong command is answered at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.extras import needed
from hybrid_vit.utils.files import read_json

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

PLAN = "search.json"
OWN = (PLAN, "study.", "trials", "pareto.", "front")  # how the names of what a search makes begin
REMEDY = "restore it from a copy, or begin a new search with another out=PATH"
STATES = ("complete", "pruned", "infeasible", "failed")

Plan = dict[str, Any]  # "settings" of every trial, "space", "sampler", "cost": what stays the same in a search


def distributions(space: dict[str, Any]) -> dict[str, BaseDistribution]:
    """What may be drawn for each setting.

    Raises:
        ModuleNotFoundError: Optuna is not installed.
        UserError: an entry that is neither a list of choices nor a range; names it.
    """
    needed("optuna", extra="search", what="a search")
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for key, entry in space.items():
        shape = entry if isinstance(entry, dict) else {}
        try:
            if isinstance(entry, list):
                found[key] = CategoricalDistribution(entry)
            elif {"low", "high"} <= shape.keys() <= {"low", "high", "step", "log"}:
                whole = all(isinstance(shape.get(name, 1), int) for name in ("low", "high", "step"))
                found[key] = IntDistribution(**shape) if whole else FloatDistribution(**shape)
            else:
                raise UserError(f"{entry} cannot be drawn from")
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{key} in the space: {error}; write [A, B, C], or {{low: A, high: B}} with step: S or log: true"
            ) from None
    return found


def first(space: dict[str, Any]) -> dict[str, Any]:
    """The first choice, or the low end, of every entry; UserError as above."""
    distributions(space)
    return {key: entry[0] if isinstance(entry, list) else entry["low"] for key, entry in space.items()}


def written(value: Any) -> str:
    """A value as on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def overrides(plan: Plan, params: dict[str, Any]) -> list[str]:
    """The training settings of a trial, as on the command line."""
    return [f"{key}={written(value)}" for key, value in (plan["settings"] | params).items()]


def inspect(directory: Path, plan: Plan) -> None:
    """See that a search can go on in `directory`, or begin there; nothing is written.

    Raises:
        UserError: another search lies there, or its files are damaged.
    """
    begun = any((directory / "trials").glob("*"))  # looked at first: another process writes its plan before them
    if (directory / PLAN).exists():
        agree(directory, plan)
    elif begun:
        raise UserError(f"{directory / PLAN} is missing, and the search in {directory} cannot go on; {REMEDY}")
    elif directory.is_dir() and (others := foreign(directory)):
        raise UserError(
            f"{directory} holds {others[0]}, which is not part of a search; choose another place with out=PATH"
        )
    ended(directory / "trials")


def foreign(directory: Path) -> list[str]:
    """What lies in a directory besides hidden files, logs and what a search, perhaps another process, makes."""
    names = (path.name for path in directory.iterdir() if path.suffix != ".log")
    return sorted(name for name in names if name[0] != "." and not name.startswith(OWN))


def agree(directory: Path, plan: Plan) -> None:
    """See that a directory is that of the search `plan`.

    Raises:
        UserError: it is not; names the first setting that differs.
    """
    before = read_json(directory / PLAN, REMEDY)
    if not all(isinstance(before.get(key), type(plan[key])) for key in plan):
        raise UserError(f"{directory / PLAN} cannot be read (no search has written it); {REMEDY}")
    there, here = flat(before), flat(plan)
    for key in here | there:
        if there.get(key) != here.get(key):
            raise UserError(
                f"{directory} holds another search, with {said(key, there)}, not {said(key, here)}; "
                "repeat its settings to go on with it, or choose another directory with out=PATH"
            )


def flat(plan: Plan) -> dict[str, Any]:
    """A plan with one value a setting: a text, or what its space has."""
    return {"sampler": plan["sampler"], "cost": plan["cost"]} | plan["space"] | plan["settings"]


def said(key: str, values: dict[str, Any]) -> str:
    """A setting as a user would write it; one that is not given has the default of training."""
    return f"{key}={written(values[key])}" if key in values else f"the default of {key}"


def ended(trials: Path) -> list[dict[str, Any]]:
    """How each trial ended that did, by number.

    Args:
        trials: the folder with a directory a trial.

    Raises:
        UserError: a trial.json is damaged; names it.
    """
    found = []
    for path in sorted(trials.glob("*/trial.json")):
        end = read_json(path, REMEDY)
        whole = (
            isinstance(end.get("number"), int) and isinstance(end.get("params"), dict) and end.get("state") in STATES
        )
        if not whole or (end["state"] == "complete" and not isinstance(end.get("val_top1"), int | float)):
            raise UserError(f"{path} cannot be read (no search has written it); {REMEDY}")
        found.append(end)
    return found


def check_comparable(spec: dict[str, Any]) -> None:
    """Settings with which trials could not be compared by what is measured of them are a UserError."""
    if spec["data"]["val_size"] == 0:
        raise UserError("data.val_size=0 leaves no images to compare trials by; leave it out")
    if spec["data"]["monitor_test"]:
        raise UserError("data.monitor_test=true looks at the test set, and a search does not; leave it out")
    if spec["trainer"]["limit_val_batches"] is not None:
        raise UserError("trainer.limit_val_batches leaves fewer images to compare trials by; leave it out")
    if spec["budget_by"] == "clock":
        raise UserError("budget_by=clock gives trials another number of steps each; leave it out")
    if spec["progressive"]["sizes"]:
        raise UserError("progressive.sizes changes what a step costs; leave it out")
    if spec["trainer"]["devices"] * spec["trainer"]["num_nodes"] > 1:
        raise UserError("a trial is trained by one process; for several at once, start the same command several times")
