"""A study: a space of settings and a directory -> trials, shared by all processes of a machine that search there.

search.json      what is searched; it stays the same
study.journal    what the sampler knows: settings, objectives and states, in Optuna's format
trials/0007/     a run, with trial.json: how it ended

A trial is trained by the process that holds its lock. The system lets go of a lock when its process ends, be it
killed, so that a trial without `trial.json` whose lock is free was left behind and is taken up again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from hybrid_vit.studies.search.space import PLAN, REMEDY, Plan, agree, distributions, inspect
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import Lock, read_json, write_json

DEATHS = 2  # of processes in one trial, before it is taken for one that cannot be trained here
POPULATION = 10  # of NSGA-II: a few generations in as many trials as a small machine can train

Outcome = dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """A trial that this process may train, since it holds the lock."""

    number: int
    params: dict[str, Any]
    directory: Path
    lock: Lock
    killed: bool  # whether the process that had it before was


class Study:
    """The trials of a search.

    Args:
        directory: where it lies or will lie.
        plan: what is searched: "space", "sampler" and whatever else must stay the same.
        seed: of the sampler, which draws from it and from the number of the trial.

    Raises:
        UserError: another search lies there, or its files are damaged.
    """

    def __init__(self, directory: Path, plan: Plan, *, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        inspect(directory, plan)
        self.trials = directory / "trials"
        self.trials.mkdir(parents=True, exist_ok=True)
        self.plan, self.seed = plan, seed
        self.space = distributions(plan["space"])
        self.lock = Lock(directory / "study.lock")
        journal = directory / "study.journal"
        with self.lock:
            if not (directory / PLAN).exists():
                write_json(directory / PLAN, plan)
            agree(directory, plan)
            self._study = opened(journal, Lock(directory / "study.journal.lock"))
            last = max((int(path.name) for path in self.trials.glob("[0-9]*")), default=-1)
            if last >= len(self._study.get_trials(deepcopy=False)):
                raise UserError(f"{journal} lacks trial {last} of {self.trials}; {REMEDY}")

    def claim(self, total: int) -> Claim | None:
        """A trial that a process left behind, else a new one, or None once there are `total`."""
        with self.lock:
            known = self._study.get_trials(deepcopy=False)
            for trial in known:
                if trial.state is TrialState.RUNNING and trial.params.keys() != self.space.keys():
                    self._study.tell(trial.number, state=TrialState.FAIL)  # killed while its settings were drawn
                elif trial.state is TrialState.RUNNING and (claim := self._take(trial.number, trial.params)):
                    end = claim.directory / "trial.json"
                    if not end.exists():
                        if not claim.killed or self._deaths(claim) < DEATHS:
                            return claim
                        why = f"{DEATHS} processes were killed in it, perhaps because memory ran out"
                        write_end(claim, {"state": "failed", "why": why})
                    self._tell(claim, read_json(end))  # it was only not told
            known = self._study.get_trials(deepcopy=False)  # some have just been told how they ended
            if sum(trial.state is not TrialState.FAIL for trial in known) >= total:
                return None
            self._study.sampler = sampler(self.plan["sampler"], seed=(10_000 * self.seed + len(known)) % 2**32)
            new = self._study.ask(self.space)
            claim = self._take(new.number, new.params)
            assert claim is not None
            return claim

    def tell(self, claim: Claim, outcome: Outcome) -> None:
        """Record how a trial ended: "state", and for a complete one "val_top1" and the plan's cost."""
        write_end(claim, outcome)
        with self.lock:
            self._tell(claim, outcome)

    def _deaths(self, claim: Claim) -> int:
        """How often in a row a process was killed that trained this trial, none of them ending an epoch more."""
        path, table = claim.directory / "killed.json", claim.directory / "metrics.csv"
        rows = len(table.read_text(encoding="utf-8").splitlines()) if table.exists() else 0
        before = read_json(path) if path.exists() else {"rows": -1, "times": 0}
        times = before["times"] + 1 if before["rows"] == rows else 1
        write_json(path, {"rows": rows, "times": times})
        return times

    def _take(self, number: int, params: dict[str, Any]) -> Claim | None:
        directory = self.trials / f"{number:04d}"
        directory.mkdir(exist_ok=True)
        lock = Lock(directory / ".lock")
        killed = lock.left()
        return Claim(number, dict(params), directory, lock, killed) if lock.acquire(wait=False) else None

    def _tell(self, claim: Claim, outcome: Outcome) -> None:
        complete = outcome["state"] == "complete"
        values = [outcome["val_top1"], outcome[self.plan["cost"]]] if complete else None
        # From pruned trials the sampler learns what to avoid, such as what cannot be built; from failed ones nothing.
        self._study.tell(claim.number, values, TrialState.COMPLETE if complete else TrialState.PRUNED)
        claim.lock.release()


def write_end(claim: Claim, outcome: Outcome) -> None:
    """Write how a trial ended into its directory."""
    write_json(claim.directory / "trial.json", {"number": claim.number, "params": claim.params, **outcome})


def opened(journal: Path, lock: Any) -> optuna.Study:
    """The study in a journal, or a new one. Call it while no other process writes there.

    Args:
        journal: the file.
        lock: guards it; the type that Optuna asks for is not public.

    Raises:
        UserError: Optuna cannot read the file.
    """
    try:
        if journal.exists() and journal.read_bytes()[-1:] not in (b"", b"\n"):  # Optuna would append to that line
            raise UserError("its last line is truncated")
        return optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal), lock)),
            study_name="search",
            directions=["maximize", "minimize"],
            load_if_exists=True,
        )
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, IndexError) as error:
        raise UserError(f"{journal} cannot be read ({type(error).__name__}: {error}); {REMEDY}") from error


def sampler(name: str, *, seed: int) -> BaseSampler:
    """TPE (Bergstra et al. 2011; for several objectives Ozaki et al. 2022) or NSGA-II (Deb et al. 2002)."""
    return TPESampler(seed=seed) if name == "tpe" else NSGAIISampler(population_size=POPULATION, seed=seed)
