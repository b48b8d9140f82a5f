"""A space: training settings, each with its choices or its range, as in `conf/search` -> Optuna's distributions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Plan = dict[str, Any]  # "settings" of every trial, "space", "sampler", "cost": what stays the same in a search


def distributions(space: dict[str, Any]) -> dict[str, BaseDistribution]:
    """What may be drawn for each setting.

    Raises:
        ValueError: an entry that is neither a list of choices nor a range; names it.
    """
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
                raise ValueError(f"{entry} cannot be drawn from")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{key} in the space: {error}; write [A, B, C], or {{low: A, high: B}} with step: S or log: true"
            ) from None
    return found


def first(space: dict[str, Any]) -> dict[str, Any]:
    """The first choice, or the low end, of every entry; ValueError as above."""
    distributions(space)
    return {key: entry[0] if isinstance(entry, list) else entry["low"] for key, entry in space.items()}


def written(value: Any) -> str:
    """A value as on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def overrides(plan: Plan, params: dict[str, Any]) -> list[str]:
    """The training settings of a trial, as on the command line."""
    return [f"{key}={written(value)}" for key, value in (plan["settings"] | params).items()]
