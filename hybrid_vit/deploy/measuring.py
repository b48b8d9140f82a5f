"""Measurements of a run's own images, made once: run and data -> the files that `deploy/measured.py` names."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from hybrid_vit.deploy.measured import COLUMNS, EXAMPLES, FAMILIARITY, NEIGHBOURS, Familiarity, cached, checksum, find
from hybrid_vit.deploy.trained import Trained, load
from hybrid_vit.explanation import penultimate
from hybrid_vit.utils.files import replacing, write_json

LARGEST_EXAMPLE, LARGEST_NEIGHBOUR = 128, 64  # side in pixels
MOST_NEIGHBOURS = 50_000  # training images, chosen by chance if there are more
BATCH = 250

Batches = Iterable[tuple[Tensor, Tensor]]  # (B, 3, H, W) uint8 and (B,) int64


class Neighbours(NamedTuple):
    """Training images: (N, D) features, (N,) int64 labels, and the images themselves, (N, 3, s, s) uint8."""

    features: Tensor
    labels: Tensor
    images: Tensor


def familiarity(logits: Tensor) -> Tensor:
    """(B, classes) -> (B,): the largest probability, high for images like those of the training.

    Hendrycks and Gimpel 2017 (arXiv 1610.02136). Of the logits as they are: a temperature below 1, which calibrates a
    network that was trained with label smoothing, makes it worse at this.
    """
    return logits.softmax(dim=1).amax(dim=1)


def write_familiarity(logits: Tensor, data: str, weights: str, path: Path) -> None:
    """Write the scores of the test images, from their logits (N, classes)."""
    scores = familiarity(logits).cpu().double()
    percentiles = scores.quantile(torch.linspace(0, 1, 101, dtype=torch.float64)).tolist()
    write_json(path, Familiarity(percentiles, len(scores), data, weights)._asdict())


def first_of_each_class(batches: Batches, classes: int) -> dict[int, Tensor]:
    """Class index -> the first image of that class, for each that there is."""
    examples: dict[int, Tensor] = {}
    for images, labels in batches:
        for image, label in zip(images, labels.tolist(), strict=True):
            examples.setdefault(label, image)
        if len(examples) == classes:
            break
    return examples


def write_examples(examples: dict[int, Tensor], classes: int, path: Path) -> None:
    """Draw a (3, H, H) uint8 image of each class, by its index, as one picture; a class without one is white."""
    side = min(next(iter(examples.values())).shape[-1], LARGEST_EXAMPLE)
    sheet = Image.new("RGB", (COLUMNS * side, math.ceil(classes / COLUMNS) * side), "white")
    for index, image in examples.items():
        sheet.paste(TF.to_pil_image(TF.resize(image, [side, side])), (index % COLUMNS * side, index // COLUMNS * side))
    with replacing(path) as partial:
        sheet.save(partial, format="PNG", optimize=True)


def measure_training_images(
    trained: Trained, batches: Batches, directory: Path, progress: Callable[[int], None]
) -> None:
    """Write neighbours.safetensors into `directory`; `progress` is told the number of images that are done."""
    parts: list[tuple[Tensor, ...]] = []
    count = 0
    for images, labels in batches:
        images, labels = images[: MOST_NEIGHBOURS - count], labels[: MOST_NEIGHBOURS - count]
        features = penultimate(trained, trained.normalize(images))
        side = min(images.shape[-1], LARGEST_NEIGHBOUR)
        parts.append((F.normalize(features.float()).half(), labels, TF.resize(images, [side, side])))
        progress(count := count + len(images))
        if count == MOST_NEIGHBOURS:
            break
    tensors = {key: torch.cat(part) for key, part in zip(Neighbours._fields, zip(*parts, strict=True), strict=True)}
    with replacing(directory / NEIGHBOURS) as partial:
        save_file(tensors, partial)


def read_neighbours(path: Path) -> Neighbours:
    with safe_open(path, "pt") as file:
        return Neighbours(*(file.get_tensor(key) for key in Neighbours._fields))


def measure(run: Path, root: str | None, progress: Callable[[str], None]) -> None:
    """Write what a run lacks of the three files into the cache; `progress` is told what is being done, in words.

    Args:
        root: directory of the data set, if it has moved.

    Raises:
        UserError, OSError: the data is not there, or is not that of the run.
    """
    # Imported here: it imports Lightning, which reading the files does not need.
    from hybrid_vit.deploy.scoring import load_data

    trained, directory = load(run), cached(run)
    data = load_data(trained, {"root": root, "num_workers": 0}, same=True)
    directory.mkdir(parents=True, exist_ok=True)
    if not (find(run, FAMILIARITY) and find(run, EXAMPLES)):
        progress("The test images are being measured.")
        with torch.inference_mode():
            logits = torch.cat([trained(trained.normalize(batch[0])) for batch in data.test_dataloader()])
        write_familiarity(logits, data.source, checksum(run), directory / FAMILIARITY)
        examples = first_of_each_class((batch[:2] for batch in data.test_dataloader()), data.num_classes)
        write_examples(examples, data.num_classes, directory / EXAMPLES)
    if not find(run, NEIGHBOURS):
        data.batch_size, data.drop_last = BATCH, False
        total = min(data.sizes["train"], MOST_NEIGHBOURS)
        measure_training_images(
            trained,
            (batch[:2] for batch in data.train_dataloader()),
            directory,
            lambda done: progress(f"The training images are being compared for the first time: {done:,} of {total:,}."),
        )
