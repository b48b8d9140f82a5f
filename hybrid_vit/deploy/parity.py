"""Whether exported files answer as the network that they were made of: the same images through both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from hybrid_vit.data.module import DataModule
from hybrid_vit.deploy.graphs import given
from hybrid_vit.deploy.runtimes import open_graph
from hybrid_vit.deploy.trained import Trained
from hybrid_vit.evaluation.metrics import predictions
from hybrid_vit.utils.tables import text_table


@dataclass(frozen=True)
class Parity:
    """A file beside the network, on the same test images.

    Attributes:
        images: how many.
        largest_difference: of two logits.
        changed: images whose most probable class is another one.
        top1_before: of the network, in per cent.
        top1: of the file.
    """

    images: int
    largest_difference: float
    changed: int
    top1_before: float
    top1: float


@torch.inference_mode()
def compare(
    trained: Trained, files: Sequence[Path], data: DataModule, *, preprocess: bool, limit: int | None = None
) -> dict[str, Parity]:
    """The parity of each file, by its name, on the test set or `limit` images of it, evenly spread.

    Args:
        trained: what the files were made of; computes in fp32.
        preprocess: whether the files normalise.
    """
    runners = {path.name: open_graph(path) for path in files}
    before: list[Tensor] = []
    after: dict[str, list[Tensor]] = {name: [] for name in runners}
    truth: list[Tensor] = []
    total = data.sizes["test"]
    count = total if limit is None else min(limit, total)
    chosen = torch.zeros(total, dtype=torch.bool)
    chosen[torch.arange(count) * total // count] = True  # folders are in the order of their classes
    progress = tqdm(total=count, desc="parity", unit="image", leave=False, disable=None)
    start = 0
    for images, labels, _ in data.test_dataloader():
        taken = chosen[start : (start := start + len(images))]
        images, labels = images[taken], labels[taken]
        if not len(images):
            continue
        before.append(trained(data.normalize(images)))
        for name, run in runners.items():
            after[name].append(run(given(images, trained.normalize, preprocess=preprocess)))
        truth.append(labels)
        progress.update(len(images))
    progress.close()
    data.teardown("test")
    logits, answers, labels = torch.cat(before), predictions(torch.cat(before)), torch.cat(truth)
    found = {}
    for name, parts in after.items():
        other = torch.cat(parts)
        said = predictions(other)
        found[name] = Parity(
            images=len(labels),
            largest_difference=(other - logits).abs().amax().item(),
            changed=int((said != answers).sum()),
            top1_before=100 * (answers == labels).double().mean().item(),
            top1=100 * (said == labels).double().mean().item(),
        )
    return found


def draw_images(data: DataModule, count: int) -> Tensor:
    """`count` training images (or all), drawn by the seed of the run, not augmented: (count, 3, H, W) uint8."""
    images: list[Tensor] = []
    for batch in data.train_dataloader():
        images.append(batch.images)
        if sum(map(len, images)) >= count:
            break
    data.teardown("fit")
    return torch.cat(images)[:count]


def table(files: Sequence[Path], parity: Mapping[str, Parity]) -> str:
    """A row for each file: its size, and its parity if that is known."""
    compared = ("largest logit difference", "changed predictions", "top-1", "in PyTorch") if parity else ()
    columns = ("file", "MB", *compared)
    rows = []
    for file in files:
        weights = file.with_suffix(".bin")
        size = file.stat().st_size + (weights.stat().st_size if weights.exists() else 0)
        row = [file.name, f"{size / 1e6:.1f}"]
        if parity:
            found = parity[file.name]
            row += [f"{found.largest_difference:.2g}", f"{found.changed:,} of {found.images:,}"]
            row += [f"{found.top1:.2f} %", f"{found.top1_before:.2f} %"]
        rows.append(row)
    return text_table(columns, rows)
