"""Exported files and what runs them on a CPU: a path -> a function of images, with as many threads as torch."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from hybrid_vit.deploy.graphs import INPUT, openvino_core
from hybrid_vit.utils.extras import needed

Runner = Callable[[Tensor], Tensor]  # (B, ...) images as the file takes them -> (B, classes) logits


def open_graph(path: Path) -> Runner:
    """What an exported file computes in fp32: .pt2 by torch, .onnx by ONNX Runtime, .xml by OpenVINO."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    return open_onnx(path) if path.suffix == ".onnx" else open_openvino(path, exact=True)


def open_onnx(path: Path) -> Runner:
    """An ONNX file in ONNX Runtime."""
    runtime = needed("onnxruntime", extra="export", what="an ONNX file")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0])


def open_openvino(path: Path, *, exact: bool) -> Runner:
    """An OpenVINO or an ONNX file in OpenVINO.

    Args:
        exact: compute in fp32; otherwise in bf16 where the processor has instructions for it, OpenVINO's default.
    """
    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    precision = {"INFERENCE_PRECISION_HINT": "f32"} if exact else {}
    compiled = openvino_core().compile_model(path, "CPU", settings | precision)
    return lambda images: torch.from_numpy(compiled(images.numpy())[0])
