"""A run directory: what lies in it, and how a trained model comes out of it again.

.hydra/              the configuration, as given and as composed
metrics.csv          a row an epoch
train.log
checkpoints/         last.ckpt, the one before it as previous.ckpt, best.ckpt
model.json           how to build the model, its classes and its preprocessing, and a fingerprint of the data
model.safetensors    the weights that were scored, with a checksum
summary.json         scores, size, speed, machine, versions, commit, seed; state: running, stopped, failed or done
"""

import hashlib
import inspect
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hybrid_vit import augment, models
from hybrid_vit.accelerator import choose
from hybrid_vit.augment import Normalize
from hybrid_vit.data.decode import Source, decode, square
from hybrid_vit.utils.files import read_json, replacing

MODELS = ("hybrid_vit", "timm_model", "CvT", "WideResNet")
STEMS = ("ConvStem", "PatchStem", "TokenizerStem", "ResNetStem", "MobileStem")
TRANSFORMS = (
    *("RandomCrop", "RandomResizedCrop", "RandomHorizontalFlip", "ColorJitter", "RandomErasing"),
    *("AutoAugment", "RandAugment", "TrivialAugment", "Mix", "Mixup", "CutMix"),
)
# Everything that a configuration may name as `_target_`, and nothing else.
PARTS: dict[str, Callable[..., Any]] = {
    **{f"hybrid_vit.models.{name}": getattr(models, name) for name in (*MODELS, *STEMS)},
    **{f"hybrid_vit.augment.{name}": getattr(augment, name) for name in TRANSFORMS},
}
HERE = Path(__file__).resolve().parent
PUBLISHED = HERE.parent / "outputs" / "published"
WEIGHTS = "model.safetensors"
AGAIN = "copy it again from where the run was made, or train it again"
HEADS = {"head", "head_dist", "fc", "classifier"}  # what timm and transformers call a classifier
PACKAGES = ("torch", "torchvision", "lightning", "torchmetrics")


def build(spec: Any) -> Any:
    """Build what a specification describes: a dictionary with `_target_` becomes a call, inside out.

    Raises:
        ValueError: a target that is not in PARTS (a specification may come from a stranger's file), or arguments that
            it does not take.
    """
    if isinstance(spec, list):
        return [build(item) for item in spec]
    if not isinstance(spec, dict):
        return spec
    arguments = {key: build(value) for key, value in spec.items() if key != "_target_"}
    if "_target_" not in spec:
        return arguments
    target = spec["_target_"]
    if target not in PARTS:
        raise ValueError(f"_target_ {target!r} is none of the models and transforms that a configuration may name")
    part, name = PARTS[target], target.rpartition(".")[2]
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
        fingerprint: of the data it was trained and scored on, as `DataModule.fingerprint`; None in older runs.
    """

    def __init__(self, net: nn.Module, description: dict[str, Any], summary: dict[str, Any]) -> None:
        super().__init__()
        self.net = net
        self.eval()
        self.class_names: list[str] = description["class_names"]
        self.image_size: int = description["image_size"]
        self.normalize = Normalize(description["mean"], description["std"])
        self.summary = summary
        self.fingerprint: dict[str, Any] | None = description.get("fingerprint")

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images.to(next(self.net.parameters()))).float()

    def preprocess(self, pictures: Source | Sequence[Source]) -> Tensor:
        """Pictures -> (B, 3, image_size, image_size) float32: decoded, resized and normalised as in training.

        Args:
            pictures: one or several of any size and kind: PIL image, path of a file, (H, W) or (H, W, 3) uint8 array,
                (3, H, W) uint8 tensor.

        Raises:
            ValueError: something else, or a picture that cannot be read.
        """
        several = isinstance(pictures, Sequence) and not isinstance(pictures, str)
        sources: list[Any] = list(pictures) if several else [pictures]  # type: ignore[arg-type]
        if not sources:
            raise ValueError("there are no pictures to preprocess; give at least one")
        return self.normalize(torch.stack([square(decode(source), self.image_size) for source in sources]))


def load(run: str | Path, *, fast: bool = False) -> Trained:
    """The trained model of a run directory, or of a run in outputs/published by its name.

    Args:
        run: its path or name.
        fast: for inference only, on this machine's device and in the precision that is fast there.

    Raises:
        ValueError: no such run, a run without weights yet, or weights of another model.
    """
    directory = find(run)
    description = read_description(directory)
    weights = load_weights(directory)
    net = build(untrained(description["model"]))
    restore(net, weights, directory / WEIGHTS)
    return Trained(choose().serve(net) if fast else net, description, read_json(directory / "summary.json"))


def untrained(model: dict[str, Any]) -> dict[str, Any]:
    """The specification of a model that does not begin with a library's trained weights: its own are at hand."""
    return {key: False if key == "pretrained" else value for key, value in model.items()}


def read_description(directory: Path) -> dict[str, Any]:
    """The content of model.json.

    Raises:
        ValueError: it is missing or damaged, or a key is missing or of another type.
    """
    path = directory / "model.json"
    description = read_json(path, AGAIN)
    kinds: dict[str, Any] = {"model": dict, "data": dict, "class_names": list, "mean": list, "std": list}
    kinds |= {"image_size": int, "seed": int}
    wrong = [key for key, kind in kinds.items() if not isinstance(description.get(key), kind)]
    items: dict[str, Any] = {"class_names": str, "mean": float | int, "std": float | int}
    wrong += [key for key in items if not wrong and not all(isinstance(i, items[key]) for i in description[key])]
    if wrong:
        raise ValueError(f"{path} is damaged or of another program ({wrong[0]} is missing or not valid); {AGAIN}")
    return description


def adopt(net: nn.Module, run: str | Path) -> None:
    """Give `net` the weights of a trained run, but for the classifier, which stays fresh.

    Raises:
        ValueError: no such run, or another model.
    """
    directory = find(run)
    weights = load_weights(directory)
    fresh = {key: value for key, value in net.state_dict().items() if HEADS & {*key.split(".")}}
    restore(net, {key: value for key, value in weights.items() if key not in fresh} | fresh, directory / WEIGHTS)


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
    """Write model.safetensors, whole or not at all, with a checksum in its header."""
    weights = {key: value.contiguous().cpu() for key, value in net.state_dict().items()}
    with replacing(directory / WEIGHTS) as partial:
        save_file(weights, partial, metadata={"sha256": checksum(weights)})


def load_weights(directory: Path) -> dict[str, Tensor]:
    """The tensors of model.safetensors.

    Raises:
        ValueError: it is missing, damaged or another kind of file. Files from before there was a checksum in them are
            read without one.
    """
    path = directory / WEIGHTS
    if not path.exists():
        raise ValueError(f"{directory} has no {WEIGHTS}: its training has not ended; train resume={directory}")
    try:
        with safe_open(path, "pt") as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dictionary
            expected = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged or no file of weights ({reason}); {AGAIN}") from None
    if expected not in (None, checksum(weights)):
        raise ValueError(f"{path} is damaged (its checksum differs); {AGAIN}")
    return weights


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


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
