"""What a search varies and what it keeps: the plan of a search -> the configurations of its trials."""

import shlex
from pathlib import Path
from typing import Any

from hybrid_vit.config.compose import Spec, as_train, compose_config, format_experiment, resolve
from hybrid_vit.config.saved import make_paths_absolute, save_run_config
from hybrid_vit.config.validation import check_data, check_machine, check_training, check_values
from hybrid_vit.studies.search.space import Plan, check_comparable, first, overrides, written
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.paths import shown


def planned(spec: Spec, given: dict[str, str]) -> Plan:
    """What stays the same as long as a search lasts; a setting that is given leaves the space."""
    return {
        "settings": {key: written(value) for key, value in spec["train"].items()} | given,
        "space": {key: entry for key, entry in spec["space"].items() if key not in given},
    } | {key: spec[key] for key in ("sampler", "cost")}


def specified(texts: list[str]) -> Spec:
    """The plain configuration of a trial; UserError if there is none."""
    spec = resolve(compose_config(texts))
    check_values(spec)
    check_training(spec)
    return spec


def common(plan: Plan) -> Spec:
    """The first combination in the space, for what all have in common; UserError if they could not be compared."""
    specified(overrides(plan, {}))  # a mistake in a setting is none of the space
    combination = overrides(plan, first(plan["space"]))
    try:
        spec = specified(combination)
    except UserError as error:
        raise UserError(f"the first combination of the space does not fit these settings: {error}") from None
    check_data(spec["data"])  # sizes that do not go together are those of one trial
    check_machine(spec["accelerator"]["kind"], 1)
    check_comparable(spec)
    return spec


def trainable(trial: dict[str, Any], name: str, plan: Plan, directory: Path) -> str:
    """A trial as an experiment file, which begins with the command that trains it."""
    about = (
        f"# Found by a search: validation top-1 {trial['val_top1']:.2f} % (n = 1), {trial['macs']:,} MACs.\n"
        f"#   command   python -m hybrid_vit.train --config-dir {shlex.quote(str(shown(directory)))} +front={name}"
    )
    return format_experiment(compose_config(overrides(plan, trial["params"])), about)


def attempted(plan: Plan, params: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Train one trial; how it ended."""
    from hybrid_vit.studies.search.trial import attempt  # with torch

    try:
        spec = make_paths_absolute(specified(overrides(plan, params)))
    except UserError as error:
        return {"state": "infeasible", "why": str(error)}
    save_run_config(spec, directory)
    return attempt(as_train(spec), directory, plan["cost"])
