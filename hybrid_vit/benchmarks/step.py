"""Suite step: our training step against others' of the same size, and against what matrix products alone would take."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from hybrid_vit import build_model
from hybrid_vit.benchmarks.peers import LABELS, peer
from hybrid_vit.benchmarks.table import Row, Table
from hybrid_vit.benchmarks.timing import Case, Span, Turn, compare, ratio
from hybrid_vit.benchmarks.work import noise, our_step, peer_step, repeat, set_up
from hybrid_vit.evaluation.scoring import count_macs
from hybrid_vit.fast.accelerator import choose

MODELS = ("hybrid_192", "hybrid_384")
SHAPES = ((2048, 2048, 2048), (32896, 192, 768), (32896, 768, 192), (8320, 384, 1536))  # a cube, and the models' own


def run(*, batch_size: int, rounds: int, accelerator: dict[str, Any]) -> Table:
    """A row for each model and way of training it; "faster" is how many times as long as ours it takes."""
    rows: list[Row] = []
    notes: list[str] = []
    dtype = "bfloat16" if choose(**accelerator).bf16 else "float32"
    for name in MODELS:
        common = {"model": name, "accelerator": accelerator, "batch_size": batch_size}
        products = [
            Case(f"{m}x{k}x{n}", product, {"shape": (m, k, n), "dtype": dtype, "accelerator": accelerator})
            for m, k, n in SHAPES
        ]
        others = [Case(label, peer_step, {"name": key, **common}) for key, label in LABELS.items()]
        seconds = compare([Case("ours", our_step, common), *others, *products], rounds=rounds)
        rates = {
            case.name: 2 * torch.tensor(SHAPES[i]).prod().item() / Span.of(seconds[case.name]).median
            for i, case in enumerate(products)
        }
        limit = max(rates.values())
        for key, case in [(None, "ours"), *LABELS.items()]:
            if case not in seconds:
                continue
            macs = count_macs(peer(key, name) if key else build_model(name), 32)
            span = Span.of(seconds[case])
            rate = 6 * macs * batch_size / span.median  # two a multiply-add; one forward, two backward
            rows.append(
                {
                    "model": name,
                    "training step": case,
                    "ms": Span.of([1e3 * took for took in seconds[case]]),
                    "images/s": batch_size / span.median,
                    "ours is faster": None if case == "ours" else ratio(seconds, case, "ours"),
                    "GFLOP/s": rate / 1e9,
                    "of the limit, %": 100 * rate / limit if dtype == "float32" or key is None else None,
                }
            )
        logits, gradient = difference(name, accelerator)
        double = dtype == "float32" and choose(**accelerator).accelerator != "mps"
        how = "; the gradient in double precision, in which no convolution is Winograd's" if double else ""
        notes.append(
            f"{name}: best matrix product in {dtype} in this run {limit / 1e9:.0f} GFLOP/s; against the plain model, "
            f"without dropout: logits differ by {logits:.1e}, the gradient by {gradient:.1e} (relative, L2{how})"
        )
    return Table("step", f"training step, batch {batch_size}", rows, notes, ratio="ours is faster")


def product(turn: Turn, shape: tuple[int, int, int], dtype: str, accelerator: dict[str, Any]) -> None:
    """Case: one matrix product."""
    device = choose(**accelerator).device
    (m, k, n), kind = shape, getattr(torch, dtype)
    a, b = torch.randn(m, k, device=device, dtype=kind), torch.randn(n, k, device=device, dtype=kind)
    out = torch.empty(m, n, device=device, dtype=kind)

    def work() -> None:
        torch.mm(a, b.T, out=out)
        out[0, 0].item()

    repeat(turn, work)


def difference(name: str, accelerator: dict[str, Any], batch_size: int = 32) -> tuple[float, float]:
    """Relative L2 difference of ours from the plain model, without dropout: of the logits, and of the gradient.

    The gradient is taken in double precision, unless ours is in bf16 or on an Apple GPU: in single precision rounding
    changes the sign of some inputs of a ReLU, which alone changes the gradient by a thousandth, also the plain one.
    """
    still = {f"{part}_rate": 0.0 for part in ("pos_drop", "proj_drop", "drop_path")}
    torch.manual_seed(0)
    net = build_model(name, **still)
    plain = peer("document", name, rate=0.0)
    plain.load_state_dict(net.state_dict())
    choice = set_up(net, accelerator)
    plain.to(choice.device)
    images, labels = noise(batch_size, choice.device)
    logits, gradients = [], []
    for model, bf16 in ((net.train(), choice.bf16), (plain.train(), False)):
        autocast = torch.autocast(images.device.type, torch.bfloat16, enabled=bf16)
        with torch.no_grad(), autocast:
            logits.append(model(images).float())
        precise = torch.float32 if choice.bf16 or choice.accelerator == "mps" else torch.float64
        model.to(precise)
        with autocast:
            F.cross_entropy(model(images.to(precise)), labels).backward()
        weights = dict(model.named_parameters())
        gradients.append(torch.cat([cast(Tensor, weights[key].grad).flatten() for key in sorted(weights)]))
    return relative(*logits), relative(*gradients)


def relative(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|."""
    return float((a - b).norm() / b.norm())
