"""A run directory: what lies in it, and how a trained model comes out of it again.

.hydra/              the configuration, as given and as composed
metrics.csv          a row an epoch
train.log
checkpoints/         last.ckpt, best.ckpt
model.json           how to build the model, its classes and its preprocessing
model.safetensors    the weights that were scored
summary.json         scores, size, speed, machine, versions, commit, seed; state: running, stopped, failed or done
"""

import importlib
import inspect
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from hybrid_vit.accelerator import choose
from hybrid_vit.augment import Normalize
from hybrid_vit.utils.files import read_json, replacing

HERE = Path(__file__).resolve().parent
PUBLISHED = HERE.parent / "outputs" / "published"
HEADS = {"head", "head_dist", "fc", "classifier"}  # what timm and transformers call a classifier
PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics")


def build(spec: Any) -> Any:
    """Build what a specification describes: a dictionary with `_target_` becomes a call, inside out.

    Raises:
        ValueError: a target outside hybrid_vit (a specification may come from a stranger's file), or arguments that
            it does not take.
    """
    if isinstance(spec, list):
        return [build(item) for item in spec]
    if not isinstance(spec, dict):
        return spec
    arguments = {key: build(value) for key, value in spec.items() if key != "_target_"}
    if "_target_" not in spec:
        return arguments
    module, _, name = spec["_target_"].rpartition(".")
    if module.partition(".")[0] != "hybrid_vit":
        raise ValueError(f"_target_ {spec['_target_']!r} is not part of hybrid_vit; only its own parts are built")
    part = getattr(importlib.import_module(module), name)
    try:
        inspect.signature(part).bind(**arguments)
    except TypeError as error:
        raise ValueError(f"{name}: {error}; it takes {', '.join(inspect.signature(part).parameters)}") from None
    return part(**arguments)


class Trained(nn.Module):
    """A trained network in eval mode, with what belongs to it: (B, 3, H, W) normalised images -> (B, classes) logits.

    Images may be on any device, logits are fp32 on the network's.

    Attributes:
        net: the network itself.
        class_names: name of each logit.
        image_size: side of its images in pixels.
        summary: the run's summary.
    """

    def __init__(self, net: nn.Module, description: dict[str, Any], summary: dict[str, Any]) -> None:
        super().__init__()
        self.net = net
        self.eval()
        self.class_names: list[str] = description["class_names"]
        self.image_size: int = description["image_size"]
        self.normalize = Normalize(description["mean"], description["std"])
        self.summary = summary

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images.to(next(self.net.parameters()))).float()

    def preprocess(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Pictures of any size -> (B, 3, H, W) float32: shorter side resized, centre cropped, normalised."""
        size = self.image_size
        images = [F.pil_to_tensor(F.center_crop(F.resize(p.convert("RGB"), [size]), [size])) for p in pictures]
        return self.normalize(torch.stack(images))


def load(run: str | Path, *, fast: bool = False) -> Trained:
    """The trained model of a run directory, or of a run in outputs/published by its name.

    Args:
        run: its path or name.
        fast: for inference only, on this machine's device and in the precision that is fast there.

    Raises:
        ValueError: no such run, a run without weights yet, or weights of another model.
    """
    directory = find(run)
    description, weights = read_json(directory / "model.json"), directory / "model.safetensors"
    if not weights.exists():
        raise ValueError(f"{directory} has no model.safetensors: its training has not ended; train resume={directory}")
    net = build(description["model"])
    restore(net, load_file(weights), weights)
    return Trained(choose().serve(net) if fast else net, description, read_json(directory / "summary.json"))


def adopt(net: nn.Module, run: str | Path) -> None:
    """Give `net` the weights of a trained run, but for the classifier, which stays fresh.

    Raises:
        ValueError: no such run, or another model.
    """
    source = find(run) / "model.safetensors"
    if not source.exists():
        raise ValueError(f"init_from={run} has no model.safetensors: its training has not ended")
    fresh = {key: value for key, value in net.state_dict().items() if HEADS & {*key.split(".")}}
    restore(net, {key: value for key, value in load_file(source).items() if key not in fresh} | fresh, source)


def restore(net: nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    """Load `weights` strictly; those of another model are a ValueError that names `source`."""
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise another_model(source, error) from None


def another_model(source: Path, error: RuntimeError) -> ValueError:
    """torch's many lines about keys and shapes, as one sentence."""
    first = str(error).splitlines()[1:2]
    return ValueError(
        f"{source} holds the weights of another model ({' '.join(first).strip()}); use it with the model that wrote it"
    )


def find(run: str | Path) -> Path:
    """The directory of a run, by path or by its name in outputs/published."""
    for directory in (Path(run), PUBLISHED / str(run)):
        if (directory / "model.json").is_file():
            return directory
    published = sorted(path.parent.name for path in PUBLISHED.glob("*/model.json"))
    raise ValueError(
        f"{run} is not a run directory (no model.json in it)"
        + (f" nor a published run ({', '.join(published)})" if published else "")
        + "; give a folder that hybrid_vit.train made, such as outputs/runs/DATE_NAME"
    )


def save_weights(directory: Path, net: nn.Module) -> None:
    """Write model.safetensors, whole or not at all."""
    with replacing(directory / "model.safetensors") as partial:
        save_file({key: value.contiguous().cpu() for key, value in net.state_dict().items()}, partial)


def provenance() -> dict[str, Any]:
    """Where a result comes from: versions, commit (with "+" if files were changed), system."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--abbrev=40", "--dirty=+"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or None
    versions = {name: version(name) for name in PACKAGES}
    versions["python"] = platform.python_version()
    return {"commit": commit, "versions": versions, "system": platform.platform()}


def peak_memory_mib(device: torch.device) -> int:
    """The most memory held so far: of a CUDA device's allocator, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) >> 20
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts what the process that started this one held, too
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) >> 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10
