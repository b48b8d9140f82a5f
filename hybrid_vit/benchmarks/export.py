"""Suite export: inference of exported files on this CPU, in ONNX Runtime and OpenVINO, beside PyTorch and ours."""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from hybrid_vit import build_model
from hybrid_vit.benchmarks import infer
from hybrid_vit.benchmarks.table import Row, Table
from hybrid_vit.benchmarks.timing import Case, Turn
from hybrid_vit.benchmarks.work import noise, repeat
from hybrid_vit.deploy.graphs import Portable, quantize, trace, write_onnx
from hybrid_vit.deploy.runtimes import open_onnx, open_openvino
from hybrid_vit.fast.accelerator import choose

MODELS = ("hybrid_192", "hybrid_fast")
SIDE = 32


def run(*, rounds: int, accelerator: dict[str, Any], models: Sequence[str] = MODELS) -> Table:
    """A row for each model of `conf/model`, batch size and runtime; what is not installed is left out."""
    accelerator = accelerator | {"kind": "cpu"}
    rows: list[Row] = []
    for model in models:
        with TemporaryDirectory() as folder:
            cases = others(model, Path(folder), bf16=choose(**accelerator).bf16)
            for batch in infer.BATCHES:
                own = infer.ours_first(model, accelerator, batch)
                other = [Case(case.name, case.run, {**case.arguments, "batch_size": batch}) for case in cases]
                found = infer.measure([*own, *other], batch=batch, rounds=rounds)
                rows += [{"model": model, **row} for row in found]
    notes = [
        f"ours is that of load(run, fast=True), in {'bf16' if choose(**accelerator).bf16 else 'fp32'}; the others are "
        "in fp32 unless said, OpenVINO in its default precision for this processor",
        f"int8: convolutions and linear layers; latency: {infer.CALLS} single calls of each",
    ]
    return Table("export", "inference of exported models on the CPU", rows, notes, ratio="ours is faster")


def others(model: str, folder: Path, *, bf16: bool) -> list[Case]:
    """PyTorch, and the runtimes with the files that they need, written into `folder`."""
    cases = [Case("PyTorch, eager", plain, {"model": model})]
    try:
        whole = write_onnx(trace(Portable(build_model(model)), SIDE), folder / "model.onnx")
        small = quantize(whole, folder / "model_int8.onnx", noise(64, torch.device("cpu"), SIDE)[0].split(16))
    except ModuleNotFoundError as error:
        print(f"  exported files are left out: {error}", file=sys.stderr)
        return cases
    for name, path, runtime, exact in (
        ("ONNX Runtime", whole, "onnx", True),
        ("ONNX Runtime, int8", small, "onnx", True),
        ("OpenVINO", whole, "openvino", False),
        *([("OpenVINO in fp32", whole, "openvino", True)] if bf16 else []),
        ("OpenVINO, int8", small, "openvino", False),
    ):
        cases.append(Case(name, exported, {"path": path, "runtime": runtime, "exact": exact}))
    return cases


def plain(turn: Turn, model: str, batch_size: int, calls: int | None = None) -> None:
    """Case: the network as it is trained, eager and in fp32."""
    infer.infer(turn, build_model(model).eval(), {"kind": "cpu"}, batch_size, calls)


def exported(turn: Turn, path: Path, runtime: str, exact: bool, batch_size: int, calls: int | None = None) -> None:
    """Case: a file in a runtime."""
    run = open_onnx(path) if runtime == "onnx" else open_openvino(path, exact=exact)
    images, _ = noise(batch_size, torch.device("cpu"), SIDE)
    repeat(turn, lambda: run(images), calls)
