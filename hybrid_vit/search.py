"""Command: search for models that are accurate and cheap. `python -m hybrid_vit.search search=hybrid_small`."""

import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from hybrid_vit.cli.command import arguments, check_bare, clear, run_command
from hybrid_vit.config.compose import Spec, as_train, parse_override
from hybrid_vit.studies.search.plan import attempted, common, planned, trainable
from hybrid_vit.studies.search.space import Plan, ended, inspect
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
        raise UserError("a search is many training runs already; leave out -m")
    given: dict[str, str] = {}
    for text in settings:
        check_bare(text)
        override, (key, _, value) = parse_override(text), text.partition("=")
        if key in ("sweep", "resume", "hydra/launcher"):
            raise UserError(f"{text} is of hybrid_vit.train; the same command continues a search, or joins it")
        if key in OWN or override.is_hydra_override():
            continue
        if override.is_sweep_override():
            raise UserError(f"{text} has several values; all trials share one, or the space in conf/search has them")
        given[key] = value
    return [text for text in argv if text.partition("=")[0] not in given], given


def search(plan: Plan, total: int, directory: Path) -> None:
    """Train trials until there are `total`, together with other processes, and report after each of them."""
    from hybrid_vit.studies.search import front
    from hybrid_vit.studies.search.study import Study
    from hybrid_vit.training.callbacks import Stopped  # here, with torch: --help and a wrong key need not wait for it

    cost = plan["cost"]
    study = Study(directory, plan, seed=common(plan)["seed"])

    def report() -> list[dict[str, Any]]:
        with study.lock:
            trials = ended(study.trials)
            front.write(directory, trials, cost, lambda trial, name: trainable(trial, name, plan, directory))
        return trials

    began, before = time.monotonic(), len(ended(study.trials))
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
        trials = report()
        left = (time.monotonic() - began) / (len(trials) - before) * max(0, total - len(trials))
        said = front.line({"number": claim.number, **outcome}, cost)
        print(f"{len(trials)} of {total}  {said}  {timedelta(seconds=round(left))} left", flush=True)
    trials = report()  # a trial may have ended without this process
    if len(trials) < total:
        print(f"other processes are training {total - len(trials)} more; so far:")
    print(f"\n{front.table(front.front(trials, cost), cost)}\n\n{directory / 'pareto.png'}\n{directory / 'front'}")


if __name__ == "__main__":
    main()
