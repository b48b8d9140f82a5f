"""Suite input: augmented images a second on one core, ours in batches against torchvision's, on PIL images."""

from typing import Any

import torch
from torchvision.transforms.v2.functional import to_pil_image

from hybrid_vit.augment import Augment, Draw, Normalize
from hybrid_vit.benchmarks.peers import pil_transforms
from hybrid_vit.benchmarks.table import Row, Table
from hybrid_vit.benchmarks.timing import Case, Span, Turn, compare, ratio
from hybrid_vit.benchmarks.work import repeat
from hybrid_vit.config.build import build
from hybrid_vit.fast.accelerator import keep_memory


def run(*, batch_size: int, rounds: int, recipes: dict[str, Any]) -> Table:
    """A row for each of `recipes` (name -> a plain `conf/augment`) and way of computing it, on one core."""
    rows: list[Row] = []
    for name, recipe in recipes.items():
        seconds = compare(
            [
                Case("ours", ours, {"recipe": recipe, "batch_size": batch_size}),
                Case("torchvision", torchvision, {"recipe": name, "batch_size": batch_size}),
            ],
            rounds=rounds,
        )
        for case, label in (("ours", "batched"), ("torchvision", "torchvision on PIL images")):
            rows.append(
                {
                    "recipe": name,
                    "augmentation": label,
                    "images/s": Span.of([batch_size / took for took in seconds[case]]),
                    "ours is faster": None if case == "ours" else ratio(seconds, case, "ours"),
                }
            )
    return Table("input", f"augmentation on one core, batch {batch_size}", rows, ratio="ours is faster")


def ours(turn: Turn, recipe: dict[str, Any], batch_size: int) -> None:
    """Case: a batch, gathered, augmented and normalised."""
    keep_memory()
    torch.set_num_threads(1)
    augment, normalize = Augment(**build(recipe)), Normalize((0.5,) * 3, (0.25,) * 3)
    images, labels = pictures(batch_size)
    number = iter(range(10**9))

    def work() -> None:
        draw = Draw(next(number), batch_size)
        augment(images[torch.randperm(batch_size)], labels, draw, normalize=normalize, num_classes=100)

    repeat(turn, work)


def torchvision(turn: Turn, recipe: str, batch_size: int) -> None:
    """Case: the same images one by one, as a worker of a DataLoader would."""
    torch.set_num_threads(1)
    transforms = pil_transforms(recipe)
    images = [to_pil_image(image) for image in pictures(batch_size)[0]]
    repeat(turn, lambda: torch.stack([transforms(image) for image in images]))


def pictures(batch_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, 3, 32, 32) uint8 noise; what an operation costs does not depend on what is on the pictures."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (batch_size, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return images, torch.randint(100, (batch_size,), generator=generator)
