"""A trained network as a graph in a file, for batches of any size: torch.export, ONNX (int8 on request), OpenVINO.

model.pt2        what torch.export saves; torch reads it without this package
model.onnx       and model_int8.onnx
model.xml        and model.bin, model_int8.xml, model_int8.bin: made of the ONNX files
"""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from hybrid_vit.augment import Normalize
from hybrid_vit.deploy.trained import Trained
from hybrid_vit.fast import folded, set_hybrid
from hybrid_vit.utils.extras import needed
from hybrid_vit.utils.files import replacing

INPUT, OUTPUT = "images", "logits"
QUANTIZED = ["Conv", "MatMul", "Gemm"]  # nearly all multiplications; of the rest int8 costs more than it saves
# Images of a calibration batch, whose smallest and largest activations are averaged over batches. One range for all
# images would be that of an outlier: of the answers of `fast_4m` on 10,000 test images 458 change then, and 235 so.
BATCH = 16


class Portable(nn.Module):
    """What a file computes: (B, 3, H, W) normalised float32 images -> (B, classes) logits, with BatchNorm folded.

    Args:
        net: a trained network, which stays as it is.
        normalize: if given, the first step, and images are (B, H, W, 3) uint8.
    """

    def __init__(self, net: nn.Module, normalize: Normalize | None = None) -> None:
        super().__init__()
        self.net = folded(net).cpu()
        set_hybrid(self.net)
        self.normalize = normalize

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images if self.normalize is None else self.normalize(images.permute(0, 3, 1, 2)))


def trace(net: Portable, image_size: int) -> ExportedProgram:
    """The graph of `net`, for square images of that side."""
    if net.normalize is None:
        images = torch.zeros(2, 3, image_size, image_size)
    else:
        images = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    with torch.no_grad():
        net(images)  # `normalize` makes its constants in the first call, which tracing must not see
        return torch.export.export(net, (images,), dynamic_shapes={INPUT: {0: Dim("batch")}})


def write_graphs(
    trained: Trained, directory: Path, target: str, *, preprocess: bool, calibration: Tensor | None = None
) -> list[Path]:
    """Write the files of a target into `directory`; returns those that `runtimes.open_graph` takes.

    Args:
        target: "torch_export", "onnx" or "openvino".
        preprocess: whether the graph normalises, as `Portable` does.
        calibration: (n, 3, H, W) uint8 images; with them there is an int8 file, too.
    """
    program = trace(Portable(trained.net, trained.normalize if preprocess else None), trained.image_size)
    if target == "torch_export":
        path = directory / "model.pt2"
        with replacing(path) as partial, partial.open("wb") as file:
            torch.export.save(program, file)
        return [path]
    with TemporaryDirectory(dir=directory, prefix=".onnx_") as scratch:
        place = Path(scratch) if target == "openvino" else directory
        files = [write_onnx(program, place / "model.onnx")]
        if calibration is not None:
            images = given(calibration, trained.normalize, preprocess=preprocess)
            files.append(quantize(files[0], place / "model_int8.onnx", images.split(BATCH)))
        return [write_openvino(file, directory) for file in files] if target == "openvino" else files


def given(images: Tensor, normalize: Normalize, *, preprocess: bool) -> Tensor:
    """(B, 3, H, W) uint8 images as a graph takes them: (B, H, W, 3) if it normalises, else normalised."""
    return images.permute(0, 2, 3, 1).contiguous() if preprocess else normalize(images)


def write_onnx(program: ExportedProgram, path: Path) -> Path:
    """Write an ONNX file, weights included."""
    needed("onnxscript", extra="export", what="target=onnx")
    graph = torch.onnx.export(
        program,
        (),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes={INPUT: {0: "batch"}},
        dynamo=True,
        verbose=False,
    )
    assert graph is not None
    with replacing(path) as partial:
        graph.save(partial, external_data=False)
    return path


def quantize(source: Path, path: Path, batches: Sequence[Tensor]) -> Path:
    """Write an ONNX file whose convolutions and matrix products are in int8, calibrated on `batches` of its input.

    Statically: weights in int8 per channel, activations in uint8 between the smallest and the largest value of a batch,
    averaged over the batches.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Batches(CalibrationDataReader):  # type: ignore[misc]
        waiting = iter(batches)

        def get_next(self) -> dict[str, object] | None:
            batch = next(self.waiting, None)
            return None if batch is None else {INPUT: batch.numpy()}

    with TemporaryDirectory() as scratch, replacing(path) as partial:
        prepared = Path(scratch) / "model.onnx"
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            partial,
            Batches(),
            op_types_to_quantize=QUANTIZED,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "CalibMovingAverage": True},
        )
    return path


@functools.cache
def openvino_core() -> Any:
    """OpenVINO's core, one for the process.

    Of two (OpenVINO 2026.4, a CPU with AVX-512) the one that ends first frees the signal stack to which the other sets
    the thread back when it ends: then the next signal, such as the end of a child process, kills this process.
    """
    return needed("openvino", extra="openvino", what="OpenVINO's format").Core()


def write_openvino(source: Path, directory: Path) -> Path:
    """Write the .xml and the .bin of an ONNX file into `directory`."""
    openvino = needed("openvino", extra="openvino", what="target=openvino")
    model = openvino_core().read_model(source)
    made = source.with_suffix(".xml")
    openvino.save_model(model, made, compress_to_fp16=False)
    for suffix in (".bin", ".xml"):
        os.replace(made.with_suffix(suffix), directory / f"{source.stem}{suffix}")
    return directory / made.name


def describe(trained: Trained, *, preprocess: bool) -> dict[str, Any]:
    """What a program needs to know of a file, for JSON: its input, its output, the classes."""
    side = trained.image_size
    images = ["batch", side, side, 3] if preprocess else ["batch", 3, side, side]
    normalised = {} if preprocess else {"mean": trained.normalize.mean, "std": trained.normalize.std}
    return {
        "input": {"name": INPUT, "shape": images, "type": "uint8" if preprocess else "float32", **normalised},
        "output": {"name": OUTPUT, "shape": ["batch", len(trained.class_names)], "type": "float32"},
        "temperature": trained.temperature,
        "class_names": trained.class_names,
    }
