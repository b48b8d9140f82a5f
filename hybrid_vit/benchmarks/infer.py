"""Suite infer: images a second and the latency of single calls, ours against others' of the same size, in eval mode."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from hybrid_vit import build_model
from hybrid_vit.benchmarks.peers import LABELS, peer
from hybrid_vit.benchmarks.table import Row, Table
from hybrid_vit.benchmarks.timing import Case, Span, Turn, alone, compare, ratio
from hybrid_vit.benchmarks.work import noise, repeat
from hybrid_vit.fast.accelerator import choose, keep_memory

MODEL = "hybrid_192"
BATCHES = (1, 256)
CALLS = 200  # of which the latency's percentiles are taken
WARMUP = 20  # calls before them


def run(*, rounds: int, accelerator: dict[str, Any]) -> Table:
    """A row for each batch size and network; latency is that of one image."""
    rows: list[Row] = []
    choice = choose(**accelerator)
    for batch in BATCHES:
        common = {"accelerator": accelerator, "batch_size": batch}
        cases = ours_first(MODEL, accelerator, batch)
        cases += [Case(name, theirs, {"key": key, **common}) for key, name in LABELS.items()]
        rows += measure(cases, batch=batch, rounds=rounds)
    note = f"ours computes in {'bf16' if choice.bf16 else 'fp32'}; latency: {CALLS} single calls of each"
    return Table("infer", f"inference, {MODEL} and networks of its size", rows, [note], ratio="ours is faster")


def ours_first(model: str, accelerator: dict[str, Any], batch: int) -> list[Case]:
    """The case "ours" and, where it computes in bf16, the same in fp32."""
    common = {"model": model, "batch_size": batch}
    cases = [Case("ours", ours, {"accelerator": accelerator, **common})]
    if choose(**accelerator).bf16:
        precise = accelerator | {"precision": "32-true"}
        cases.append(Case("ours in fp32", ours, {"accelerator": precise, **common}))
    return cases


def measure(cases: Sequence[Case], *, batch: int, rounds: int) -> list[Row]:
    """A row for each case, one of which is "ours": images a second and, of batch size 1, the latency of single calls.

    A case takes `calls`, the number of its calls in a turn.
    """
    seconds = compare(cases, rounds=rounds)
    single = [Case(case.name, case.run, {**case.arguments, "calls": 1}) for case in cases if case.name in seconds]
    # One case after another: the threads of some runtimes go on for a while after a call, on the cores of the next.
    calls = {case.name: alone(case, rounds=CALLS, warmup=WARMUP)[0] for case in single} if batch == 1 else {}
    rows: list[Row] = []
    for case in seconds:
        p50, p99 = np.percentile(calls[case], (50, 99)) * 1e3 if batch == 1 else (None, None)
        rows.append(
            {
                "batch": str(batch),
                "network": case,
                "images/s": Span.of([batch / took for took in seconds[case]]),
                "ours is faster": None if case == "ours" else ratio(seconds, case, "ours"),
                "p50, ms": p50,
                "p99, ms": p99,
            }
        )
    return rows


def ours(turn: Turn, model: str, accelerator: dict[str, Any], batch_size: int, calls: int | None = None) -> None:
    """Case: ours, as `hybrid_vit.load(run, fast=True)` makes it."""
    choice = choose(**accelerator)
    infer(turn, choice.serve(build_model(model)), accelerator, batch_size, calls)


def theirs(turn: Turn, key: str, accelerator: dict[str, Any], batch_size: int, calls: int | None = None) -> None:
    """Case: a peer, eager and in fp32."""
    infer(turn, peer(key, MODEL).eval().to(choose(**accelerator).device), accelerator, batch_size, calls)


def infer(turn: Turn, net: nn.Module, accelerator: dict[str, Any], batch_size: int, calls: int | None) -> None:
    """Call `net` for ever, `calls` times a turn; each call ends with its logits on the CPU.

    Whose it may be, freed memory is kept, as the commands do it.
    """
    keep_memory()
    images, _ = noise(batch_size, choose(**accelerator).device)
    dtype = next(net.parameters()).dtype

    def work() -> None:
        with torch.inference_mode():
            net(images.to(dtype)).float().cpu()

    repeat(turn, work, calls)
