"""A run directory: what lies in it, and how a trained model comes out of it again.

.hydra/              the configuration, as given and as composed
metrics.csv          a row an epoch
train.log
checkpoints/         last.ckpt, and the one before it as previous.ckpt
model.json           how to build the model, its classes and its preprocessing, and a fingerprint of the data
model.safetensors    the weights that were scored, with a checksum
summary.json         scores, size, speed, machine, versions, commit, seed; state: running, stopped, failed or done
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor, nn

from hybrid_vit.augment import Normalize
from hybrid_vit.config.build import build, untrained
from hybrid_vit.data.decode import Source, decode, square
from hybrid_vit.deploy.weights import AGAIN, checksum, load_weights, restore
from hybrid_vit.fast.accelerator import choose
from hybrid_vit.models.layers import CLASSIFIERS
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import read_json
from hybrid_vit.utils.paths import WEIGHTS, composed, find_run


@dataclass(frozen=True)
class Prediction:
    """The prediction of a network for one picture.

    Attributes:
        label: name of the most probable class; of equal ones the first.
        probability: of that class, in [0, 1].
        probabilities: of each class by its name, the most probable first; they sum to 1.
    """

    label: str
    probability: float
    probabilities: dict[str, float]


class Trained(nn.Module):
    """A trained network in eval mode, with what belongs to it: (B, 3, H, W) normalised images -> (B, classes) logits.

    Images may be on any device. The logits are float32, on the device of the network.

    Attributes:
        net: the network itself.
        class_names: name of each logit.
        image_size: side of its images in pixels.
        summary: the run's summary.
        directory: of the run.
        temperature: the number by which `rank` divides the logits; 1 if none was fitted.
        fingerprint: of the data it was trained and scored on, as `DataModule.fingerprint`; None in older runs.
    """

    def __init__(self, net: nn.Module, description: dict[str, Any], summary: dict[str, Any], directory: Path) -> None:
        super().__init__()
        self.net = net
        self.eval()
        self.class_names: list[str] = description["class_names"]
        self.image_size: int = description["image_size"]
        self.normalize = Normalize(description["mean"], description["std"])
        self.temperature = float(description.get("temperature", 1.0))
        self.summary, self.directory = summary, directory
        self.fingerprint: dict[str, Any] | None = description.get("fingerprint")

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images.to(next(self.net.parameters()))).float()

    def preprocess(self, pictures: Source | Sequence[Source]) -> Tensor:
        """Pictures -> (B, 3, image_size, image_size) float32: decoded, resized and normalised as in training.

        Args:
            pictures: one or several of any size and kind: PIL image, path of a file, (H, W) or (H, W, 3) uint8 array,
                (3, H, W) uint8 tensor.

        Raises:
            UserError: something else, or a picture that cannot be read.
        """
        several = isinstance(pictures, Sequence) and not isinstance(pictures, str)
        sources: list[Any] = list(pictures) if several else [pictures]  # type: ignore[arg-type]
        if not sources:
            raise UserError("there are no pictures to preprocess; give at least one")
        return self.normalize(torch.stack([square(decode(source), self.image_size) for source in sources]))

    @overload
    def predict(  # type: ignore[overload-overlap]  # a text is a sequence of texts
        self, pictures: Source, *, batch_size: int = 64
    ) -> Prediction: ...

    @overload
    def predict(self, pictures: Sequence[Source], *, batch_size: int = 64) -> list[Prediction]: ...

    @torch.inference_mode()
    def predict(self, pictures: Source | Sequence[Source], *, batch_size: int = 64) -> Prediction | list[Prediction]:
        """The prediction for one picture, or a list of predictions for several, without gradients.

        Args:
            pictures: as for `preprocess`.
            batch_size: pictures that are in memory at once.

        Raises:
            UserError: something that is not an image, or one that cannot be read; a batch_size below 1.
        """
        if batch_size < 1:
            raise UserError(f"batch_size={batch_size} must be at least 1")
        if isinstance(pictures, str) or not isinstance(pictures, Sequence):
            return self.predict([pictures])[0]
        found: list[Prediction] = []
        for first in range(0, len(pictures), batch_size):
            found += self.rank(self(self.preprocess(pictures[first : first + batch_size])))
        return found

    def rank(self, logits: Tensor) -> list[Prediction]:
        """What logits (B, classes) say, an answer for each row."""
        probabilities = (logits / self.temperature).softmax(dim=1).cpu()
        order = probabilities.argsort(dim=1, descending=True, stable=True)
        found = []
        for row, ranked in zip(probabilities.tolist(), order.tolist(), strict=True):
            by_name = {self.class_names[index]: row[index] for index in ranked}
            found.append(Prediction(self.class_names[ranked[0]], row[ranked[0]], by_name))
        return found


def load(run: str | Path, *, fast: bool = False) -> Trained:
    """As `hybrid_vit.load`, which says what it takes and raises."""
    directory = find_run(run)
    description = read_description(directory)
    weights = load_weights(directory)
    net = build(untrained(description["model"]))
    restore(net, weights, directory / WEIGHTS)
    summary = read_json(directory / "summary.json", AGAIN)
    return Trained(choose().serve(net) if fast else net, description, summary, directory)


def read_description(directory: Path) -> dict[str, Any]:
    """The content of model.json.

    Raises:
        UserError: it is missing or damaged, or a key is missing or of another type.
    """
    path = directory / "model.json"
    description = read_json(path, AGAIN)
    kinds: dict[str, Any] = {"model": dict, "data": dict, "class_names": list, "mean": list, "std": list}
    kinds |= {"image_size": int, "seed": int}
    wrong = [key for key, kind in kinds.items() if not isinstance(description.get(key), kind)]
    items: dict[str, Any] = {"class_names": str, "mean": float | int, "std": float | int}
    wrong += [key for key in items if not wrong and not all(isinstance(i, items[key]) for i in description[key])]
    if wrong:
        raise UserError(f"{path} is damaged or of another program ({wrong[0]} is missing or not valid); {AGAIN}")
    for names in filter(None, (description, description.get("fingerprint"))):  # of older runs, as their files had them
        names["class_names"] = [*map(composed, names["class_names"])]
    return description


def splits(description: dict[str, Any]) -> list[list[Any]]:
    """Seed and size of the validation split of the run, or of each member of an ensemble."""
    return description.get("splits", [[description["seed"], description["data"].get("val_size")]])


def origin(run: str | Path) -> dict[str, Any]:
    """What a summary says of the run whose weights a training started from.

    Its name, the checksum of the weights, the images they were trained on, how it scored, and what it started from.
    """
    directory = find_run(run)
    summary, data = read_json(directory / "summary.json", AGAIN), read_description(directory)["data"]
    found = {
        "run": str(run),
        "sha256": checksum(load_weights(directory)),
        "data": data.get("source"),
        "root": data.get("root"),
        "test_top1": summary.get("scores", {}).get("test_top1"),
    }
    return found | {key: summary[key] for key in ("init_from",) if key in summary}


@torch.no_grad()
def adopt(net: nn.Module, run: str | Path, class_names: Sequence[str]) -> int:
    """Give `net` the weights of a trained run; in its classifier, of the classes that both know by the same name.

    For the others it becomes zero, so that it disturbs the trained layers least when it begins to learn (Dosovitskiy
    et al. 2021, arXiv 2010.11929).

    Args:
        class_names: of `net`.

    Returns:
        How many classes both know.

    Raises:
        UserError: no such run, or another model.
    """
    directory = find_run(run)
    weights, known = load_weights(directory), read_description(directory)["class_names"]
    old = [index for index, name in enumerate(known) if name in class_names]
    new = [class_names.index(known[index]) for index in old]
    heads = {
        name: module
        for name, module in net.named_modules()
        if isinstance(module, nn.Linear)
        and name.rpartition(".")[2] in CLASSIFIERS
        and module.out_features == len(class_names)
    }
    for name, module in heads.items():
        for key, weight in module.named_parameters():
            weight.zero_()
            trained = weights.get(f"{name}.{key}")
            if trained is not None and trained.shape[1:] == weight.shape[1:]:
                weight[new] = trained[old].to(weight.dtype)
    fresh = {key: value for key, value in net.state_dict().items() if key.rpartition(".")[0] in heads}
    restore(net, {key: value for key, value in weights.items() if key not in fresh} | fresh, directory / WEIGHTS)
    return len(old)
