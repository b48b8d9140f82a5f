"""What was measured of a run once and is kept: the names of the files, where they lie, reading them without torch.

familiarity.json        how high the test images score on "is this one of my classes?"
examples.png            a test image of each class
neighbours.safetensors  training images, small, and their features

The first two lie in a published run. What a run directory does not have is in the user's cache.
"""

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from hybrid_vit.utils.files import read_json
from hybrid_vit.utils.paths import weights_of

FAMILIARITY, EXAMPLES, NEIGHBOURS = "familiarity.json", "examples.png", "neighbours.safetensors"
COLUMNS = 10  # of examples.png


class Familiarity(NamedTuple):
    """Scores of the test images.

    Attributes:
        percentiles: the 0th, 1st, ..., 100th.
        images: how many.
        data: the data set.
        weights: checksum of the weights that gave the scores.
    """

    percentiles: list[float]
    images: int
    data: str
    weights: str


def find(run: Path, name: str) -> Path | None:
    """One of the files of a run: in its directory, or in the cache; None if it is in neither."""
    return next((path for path in (run / name, cached(run) / name) if path.is_file()), None)


def cached(run: Path) -> Path:
    """The folder of the user's cache (of the XDG specification) that belongs to the weights of a run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "hybrid_vit" / checksum(run)[:16]


def checksum(run: Path) -> str:
    """sha256 of the file of weights of a run."""
    path = weights_of(run)
    return _checksum(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _checksum(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_familiarity(path: Path) -> Familiarity:
    """The content of familiarity.json."""
    return Familiarity(**read_json(path, "delete it, and it is measured again"))


def read_examples(path: Path, classes: int) -> list[Image.Image]:
    """The image of each class in examples.png."""
    with Image.open(path) as sheet:
        side = sheet.width // COLUMNS
        corners = [(index % COLUMNS * side, index // COLUMNS * side) for index in range(classes)]
        return [sheet.crop((x, y, x + side, y + side)) for x, y in corners]


def describe(run: Path) -> str:
    """The classes of a run, its size and its score, as text."""
    summary, description = read_json(run / "summary.json"), read_json(run / "model.json")
    parts = [f"{len(description['class_names'])} classes of {description['data']['source']}"]
    if parameters := summary.get("parameters"):
        parts.append(f"{parameters:,} parameters")
    if top1 := summary.get("scores", {}).get("test_top1"):
        parts.append(f"{top1:.2f} % of the test images right")
    return ", ".join(parts)
