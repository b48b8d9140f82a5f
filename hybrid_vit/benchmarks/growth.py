"""Suite growth: how the time of a training step grows with tokens, width, depth and batch size.

For each, t = a + b x + c x^2 with no negative part is fitted to the medians, relative errors counting alike. Two
crossovers follow: at x = a / b work overtakes the fixed cost, at x = b / c what grows quadratically overtakes what
grows linearly. The exponent is the slope of log t over log x at the largest x.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import nnls

from hybrid_vit.benchmarks.table import Row, Table
from hybrid_vit.benchmarks.timing import Case, Span, Turn, compare
from hybrid_vit.benchmarks.work import train_steps
from hybrid_vit.models import PatchStem, hybrid_vit

SIDE = 96  # pixels: many grids divide it
MIDDLE = {"grid": 8, "width": 96, "depth": 4, "batch": 8}
AXES: dict[str, tuple[int, ...]] = {
    "grid": (4, 6, 8, 12, 16, 24, 32),
    "width": (32, 64, 96, 192, 384, 768),
    "depth": (1, 2, 4, 8, 16),
    "batch": (1, 2, 4, 8, 16, 32, 64, 128),
}


def run(*, rounds: int, accelerator: dict[str, Any]) -> Table:
    """A row for each point of each axis; a note for each axis says what was fitted."""
    rows: list[Row] = []
    notes = [f"patch stem, {SIDE} pixels; where not varied: 64 tokens, width 96, depth 4, batch 8"]
    for axis, values in AXES.items():
        cases = [Case(str(value), grown, {"accelerator": accelerator, **MIDDLE, axis: value}) for value in values]
        seconds = compare(cases, rounds=rounds)
        name, sizes = ("tokens", [value**2 for value in values]) if axis == "grid" else (axis, list(values))
        spans = [Span.of([1e3 * took for took in seconds[str(value)]]) for value in values]
        rows += [{"axis": name, "x": x, "ms a step": span} for x, span in zip(sizes, spans, strict=True)]
        notes.append(f"{name}: {law(sizes, [span.median for span in spans])}")
    return Table("growth", "training step of a growing ViT", rows, notes)


def grown(turn: Turn, accelerator: dict[str, Any], grid: int, width: int, depth: int, batch: int) -> None:
    """Case: the training step of a ViT of that size."""
    stem = PatchStem(embed_dim=width, img_size=SIDE, grid=grid)
    net = hybrid_vit(stem=stem, num_classes=100, embed_dim=width, depth=depth, pool="mean", proj_drop_rate=0.1)
    train_steps(turn, net, accelerator, batch, SIDE)


def fit(x: Sequence[float], t: Sequence[float]) -> tuple[float, float, float]:
    """(a, b, c), none negative, of t = a + b x + c x^2 with the least sum of squared relative errors."""
    size, time = np.asarray(x, dtype=float), np.asarray(t, dtype=float)
    top = size.max()
    parts, _ = nnls(np.stack([(size / top) ** power for power in range(3)], axis=1) / time[:, None], np.ones(len(time)))
    return parts[0], parts[1] / top, parts[2] / top**2


def law(x: Sequence[float], t: Sequence[float]) -> str:
    """The fit, its exponent and its crossovers, in words."""
    a, b, c = fit(x, t)
    top = max(x)
    exponent = (b * top + 2 * c * top**2) / (a + b * top + c * top**2)
    error = max(abs((a + b * size + c * size**2) / time - 1) for size, time in zip(x, t, strict=True))
    crossovers = []
    if b and min(x) < a / b < top:
        crossovers.append(f"work overtakes the fixed cost at {a / b:.0f}")
    if c and min(x) < b / c < top:
        crossovers.append(f"quadratic growth overtakes linear growth at {b / c:.0f}")
    return (
        f"{a:.3g} + {b:.3g} x + {c:.3g} x^2 ms (largest error {100 * error:.0f} %), exponent {exponent:.2f} at {top}; "
        + ("; ".join(crossovers) or "no crossover in between")
    )
