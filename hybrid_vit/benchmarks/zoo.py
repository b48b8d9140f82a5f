"""Suite zoo: every model of `conf/model`, its size, the speed and memory of its training step, and what it has scored.

One model after the other, each alone in a process that ends before the next begins.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hybrid_vit.benchmarks.table import Row, Table
from hybrid_vit.benchmarks.timing import Case, Span, Turn, alone
from hybrid_vit.benchmarks.work import train_steps
from hybrid_vit.config.build import build
from hybrid_vit.config.saved import load_recorded_config
from hybrid_vit.evaluation.scoring import count_macs
from hybrid_vit.utils.files import read_json
from hybrid_vit.utils.paths import PUBLISHED

SIDE = 32


def run(
    *,
    rounds: int,
    batch_size: int,
    accelerator: dict[str, Any],
    models: dict[str, dict[str, Any]],
) -> Table:
    """A row for each of `models` (name -> a plain `conf/model`), by multiply-accumulates; one that lacks its package
    is left out. Scores are those of the published runs."""
    sizes: dict[str, Row] = {}
    for name, spec in models.items():
        try:
            sizes[name] = size(build(spec))
        except ModuleNotFoundError as error:
            print(f"  {name} is left out: {error}", file=sys.stderr)
            missing = error
    if not sizes:
        raise missing
    scores = [*known(PUBLISHED)]
    rows: list[Row] = []
    for name in sorted(sizes, key=lambda name: sizes[name]["million MACs"]):
        arguments = {"spec": models[name], "accelerator": accelerator, "batch_size": batch_size}
        found = [top1 for model, top1 in scores if model == models[name]]
        seconds, memory = alone(Case(name, trained, arguments), rounds=rounds)
        rows.append(
            {
                "model": name,
                **sizes[name],
                "images/s": Span.of([batch_size / took for took in seconds]),
                "memory, MiB": memory,
                "test top-1": Span.of(found) if found else None,
                "of runs": len(found) or None,
            }
        )
    notes = [
        "tokens: what the first linear layer reads of an image, CLS included; - for convolutional networks",
        "memory: the most that the GPU's allocator held, or else the process, with Python and its libraries",
        "test top-1: of the published CIFAR-100 runs of that very model, from scratch, however long they were",
    ]
    return Table("zoo", f"models at {SIDE} pixels, training step at batch {batch_size}", rows, notes)


def trained(turn: Turn, spec: dict[str, Any], accelerator: dict[str, Any], batch_size: int) -> None:
    """Case: our training step of the model that `spec` describes."""
    train_steps(turn, build(spec), accelerator, batch_size, SIDE)


def size(net: nn.Module) -> Row:
    """Parameters, multiply-accumulates of an image in millions, and tokens."""
    read: list[int] = []

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if inputs[0].ndim > 2:  # a head reads (B, D)
            read.append(inputs[0][..., 0].numel())

    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_pre_hook(count)
    return {
        "parameters": sum(parameter.numel() for parameter in net.parameters()),
        "million MACs": count_macs(net, SIDE) / 1e6,
        "tokens": read[0] if read else None,
    }


def known(published: Path) -> Iterator[tuple[dict[str, Any], float]]:
    """(plain `conf/model`, test top-1) of each published run on the whole of CIFAR-100, from scratch."""
    for file in sorted(published.rglob("summary.json")):
        summary = read_json(file)
        if "test_top1" not in summary.get("scores", {}) or summary.get("pretrained"):
            continue
        spec = load_recorded_config(file.parent)
        if spec["data"]["source"] == "cifar100" and spec["data"]["fraction"] == 1:
            yield spec["model"], summary["scores"]["test_top1"]
