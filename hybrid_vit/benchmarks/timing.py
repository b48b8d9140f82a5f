"""Timing that can be compared: cases in processes of their own, taking turns -> seconds of each in every round.

A machine gets faster and slower by the minute. Each round times every case once, in alternating order, and ratios are
taken within rounds; a process each keeps one case's memory, threads and compiled code from helping or hurting another.
"""

import logging
import multiprocessing
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

Turn = Callable[[int], None]
PATIENCE = 5  # seconds for a process to end by itself
TOLD = 20  # turns of a case that are printed; of more, so many of them

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """Something to be timed.

    Args:
        name: what the table calls it.
        run: called as run(turn, **arguments) in a process of its own; it prepares, and from then on calls `turn(n)`
            before each n repeats. What happens between two calls is what is timed. It must be importable.
        arguments: plain values.
    """

    name: str
    run: Callable[..., None]
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """The middle one of several values, the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Span":
        return cls(statistics.median(values), min(values), max(values))


def compare(cases: Sequence[Case], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of one repeat of every case in each of `rounds` rounds, after one that does not count.

    A case whose package is not installed is left out, and said so on stderr.

    Raises:
        RuntimeError: a case failed; with its traceback.
    """
    players: dict[str, Player] = {}
    try:
        for case in cases:
            player = Player(case)
            if player.missing:
                print(f"  {case.name} is left out: {player.missing}", file=sys.stderr)
            else:
                players[case.name] = player
        seconds: dict[str, list[float]] = {name: [] for name in players}
        for number in range(-1, rounds):
            for name in list(players)[:: -1 if number % 2 else 1]:
                took = players[name].turn()
                tell(players[name].case, number, rounds, took)
                if number >= 0:
                    seconds[name].append(took)
        return seconds
    finally:
        for player in players.values():
            player.end()


def alone(case: Case, *, rounds: int, warmup: int = 1) -> tuple[list[float], int]:
    """Seconds of one repeat in each round of a case that has the machine to itself, and its peak memory in MiB.

    Raises:
        RuntimeError: the case failed; with its traceback.
    """
    player = Player(case)
    try:
        seconds = []
        for number in range(-warmup, rounds):
            seconds.append(player.turn())
            tell(case, number, rounds, seconds[-1])
        return seconds[warmup:], player.memory()
    finally:
        player.end()


def tell(case: Case, number: int, rounds: int, took: float) -> None:
    """Log a turn: a line, and as the record's `turn` its case, arguments, round (0: warm-up) and seconds.

    The record is `told` for TOLD turns of a case, or for each of fewer.
    """
    arguments = [f"{key}={value}" for key, value in case.arguments.items() if isinstance(value, str | int | float)]
    turn = {"case": case.name, "arguments": " ".join(arguments), "round": max(number + 1, 0), "seconds": took}
    told = (number + 1) % max(1, rounds // TOLD) == 0
    what = f"round {number + 1} of {rounds}" if number >= 0 else "warm-up"
    log.info("%s, %s: %.4g ms", case.name, what, 1e3 * took, extra={"turn": turn, "told": told})


def ratio(seconds: dict[str, list[float]], other: str, ours: str) -> Span:
    """How many times as long `other` took as `ours`, round by round."""
    return Span.of([theirs / own for theirs, own in zip(seconds[other], seconds[ours], strict=True)])


class Player:
    """The process of a case, ready for its first turn or missing a package."""

    def __init__(self, case: Case) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_play, args=(theirs, case), daemon=True)
        self.process.start()
        theirs.close()
        self.case = case
        self.missing: str | None = None
        kind, content = self._answer()
        if kind == "missing":
            self.missing = content
            self.end()

    def turn(self) -> float:
        """Seconds of one repeat."""
        self.pipe.send("go")
        return self._answer()[1]

    def memory(self) -> int:
        """The most memory that it has held so far, in MiB: of its GPU if it uses one, else of its process."""
        self.pipe.send("memory")
        return self._answer()[1]

    def end(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join(PATIENCE)

    def _answer(self) -> tuple[str, Any]:
        try:
            kind, content = self.pipe.recv()
        except EOFError:
            self.process.join(PATIENCE)
            kind, content = "failed", f"its process ended with exit code {self.process.exitcode}"
        if kind == "failed":
            self.end()
            raise RuntimeError(f"{self.case.name}: {content}")
        return kind, content


def _play(pipe: Connection, case: Case) -> None:
    """In the process of a case: prepare, say so, and repeat as often as asked."""
    began: float | None = None
    repeats = 1

    def turn(coming: int) -> None:
        nonlocal began, repeats
        took = ("ready", None) if began is None else ("took", (time.perf_counter() - began) / repeats)
        pipe.send(took)
        while pipe.recv() == "memory":
            pipe.send(("memory", _peak()))
        began, repeats = time.perf_counter(), coming

    try:
        case.run(turn, **case.arguments)
    except ModuleNotFoundError as error:
        pipe.send(("missing", f"{error.name} is not installed; pip install '{error.name}'"))
    except EOFError:  # the other side has ended: no more turns
        pass
    except BaseException:
        pipe.send(("failed", traceback.format_exc()))


def _peak() -> int:
    import torch  # here, since not every case needs it

    from hybrid_vit.utils.provenance import peak_memory_mib

    return peak_memory_mib(torch.device("cuda" if torch.cuda.is_initialized() else "cpu"))
