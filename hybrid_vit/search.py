"""Command: search for models that are accurate and cheap. `python -m hybrid_vit.search search=hybrid_small`."""

import shlex
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from hybrid_vit.cli.command import arguments, clear, run_command
from hybrid_vit.config.compose import Spec, as_train, compose_config, format_experiment, parse_override, resolve
from hybrid_vit.config.saved import make_paths_absolute, save_run_config
from hybrid_vit.config.validation import check_data, check_machine, check_training, check_values
from hybrid_vit.studies.search.space import Plan, check_comparable, first, inspect, overrides, written
from hybrid_vit.utils.errors import UserError

OWN = ("search", "out", "trials", "sampler", "cost")


def main() -> None:
    with clear(code=2):
        argv, given = divided(sys.argv[1:])

    def job(spec: Spec, directory: Path) -> None:
        search(planned(spec, given), spec["trials"], directory)

    def also(spec: Spec, directory: Path, multirun: bool) -> None:
        plan = planned(spec, given)
        shared = common(plan)
        inspect(directory, plan)
        from hybrid_vit.studies.search.trial import ready  # with torch, for which the checks before need not wait

        ready(as_train(shared))

    run_command("search", job, argv, also=also)


def divided(argv: list[str]) -> tuple[list[str], dict[str, str]]:
    """All arguments -> those of the search, and the training settings of all trials, key and value."""
    args, settings, _ = arguments(argv)
    if args.multirun:
        raise UserError("a search is many trainings already; leave out -m")
    given: dict[str, str] = {}
    for text in settings:
        override, (key, _, value) = parse_override(text), text.partition("=")
        if key in OWN or override.is_hydra_override():
            continue
        if override.is_sweep_override():
            raise UserError(f"{text} has several values; all trials share one, or the space in conf/search has them")
        given[key] = value
    return [text for text in argv if text.partition("=")[0] not in given], given


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


def search(plan: Plan, total: int, directory: Path) -> None:
    """Train trials until there are `total`, together with other processes, and report after each of them."""
    from hybrid_vit.studies.search import front
    from hybrid_vit.studies.search.study import Study
    from hybrid_vit.training.callbacks import Stopped  # here, with torch: --help and a wrong key need not wait for it

    cost = plan["cost"]
    study = Study(directory, plan, seed=common(plan)["seed"])
    began, before = time.monotonic(), len(study.ended())
    print(f"a search of {total} trials in {directory}, {before} ended already", flush=True)
    while claim := study.claim(total):
        drawn = "  ".join(f"{front.short(key)} {front.shown(value)}" for key, value in claim.params.items())
        print(f"trial {claim.number} begins: {drawn}", flush=True)
        try:
            outcome = attempted(plan, claim.params, claim.directory)
            study.tell(claim, outcome)
        except Stopped as stopped:
            print(f"stopped ({stopped}) in trial {claim.number}; the same command continues")
            number = signal.Signals.__members__.get(str(stopped))
            raise SystemExit(128 + number if number else 0) from None
        except Exception as error:  # ours; the next start goes on with other trials
            study.tell(claim, {"state": "failed", "why": repr(error)})
            raise
        finally:
            claim.lock.release()
        with study.lock:
            trials = study.ended()
            front.write(directory, trials, cost, lambda trial, name: trainable(trial, name, plan, directory))
        left = (time.monotonic() - began) / (len(trials) - before) * max(0, total - len(trials))
        said = front.line({"number": claim.number, **outcome}, cost)
        print(f"{len(trials)} of {total}  {said}  {timedelta(seconds=round(left))} left", flush=True)
    trials = study.ended()
    if len(trials) < total:
        print(f"other processes are training {total - len(trials)} more; so far:")
    print(f"\n{front.table(front.front(trials, cost), cost)}\n\n{directory / 'pareto.png'}\n{directory / 'front'}")


def attempted(plan: Plan, params: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Train one trial; how it ended."""
    from hybrid_vit.studies.search.trial import attempt

    try:
        spec = make_paths_absolute(specified(overrides(plan, params)))
    except UserError as error:
        return {"state": "infeasible", "why": str(error)}
    save_run_config(spec, directory)
    return attempt(as_train(spec), directory, plan["cost"])


def trainable(trial: dict[str, Any], name: str, plan: Plan, directory: Path) -> str:
    """A trial as an experiment file, which begins with the command that trains it."""
    here = directory.relative_to(Path.cwd()) if directory.is_relative_to(Path.cwd()) else directory
    about = (
        f"# Found by a search: validation top-1 {trial['val_top1']:.2f} % (n = 1), {trial['macs']:,} MACs.\n"
        f"#   command   python -m hybrid_vit.train --config-dir {shlex.quote(str(here))} +front={name}"
    )
    return format_experiment(compose_config(overrides(plan, trial["params"])), about)


if __name__ == "__main__":
    main()
