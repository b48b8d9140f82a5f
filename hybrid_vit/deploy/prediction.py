"""Classifying many images: names of files, folders and patterns -> paths -> answers, as a stream."""

import csv
import glob
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor
from tqdm import tqdm

from hybrid_vit.data.folders import pictures_in
from hybrid_vit.deploy.trained import Prediction, Trained
from hybrid_vit.utils.errors import UserError

Answer = tuple[Path, Prediction | UserError]
Writer = Callable[[Answer], None]
READERS = 4  # images that are decoded at once


def find_images(places: Sequence[str]) -> list[Path]:
    """The files that `places` mean: files, folders at any depth, patterns; "-" stands for the lines of standard input.

    Raises:
        UserError: a place is none of these, or there is no image in it.
    """
    found: list[Path] = []
    for place in places:
        if place == "-":
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(errors="surrogateescape")  # a name may hold any byte
            names = [line for text in sys.stdin if (line := text.rstrip("\r\n"))]
            if not names:
                raise UserError("the standard input names no image; write one name on each line")
            for name in names:
                found += images_at(name) or [Path(name)]  # reading it will say what is wrong with it
        elif images := images_at(place):
            found += images
        elif Path(place).is_dir():
            raise UserError(f"there are no images in {place}; give a folder with some, or files")
        else:
            raise UserError(f"{place} does not exist; give image files, folders, patterns, or - for names on stdin")
    return found


def images_at(place: str) -> list[Path]:
    """The file, the images of the folder, or those of all that the pattern matches."""
    path = Path(place)
    if path.is_dir():
        return pictures_in(path, Counter())
    if path.exists():
        return [path]
    return [image for match in sorted(glob.glob(place, recursive=True)) for image in images_at(match)]


def answers(trained: Trained, paths: Sequence[Path], *, batch_size: int) -> Iterator[Answer]:
    """The prediction for each path, in order, or the error that says why its file cannot be read."""

    def read(path: Path) -> Tensor | UserError:
        try:
            return trained.preprocess(path)[0]
        except UserError as error:
            return error

    with ThreadPoolExecutor(READERS) as pool, torch.inference_mode():
        for first in range(0, len(paths), batch_size):
            batch = paths[first : first + batch_size]
            images = [*pool.map(read, batch)]
            whole = [image for image in images if isinstance(image, Tensor)]
            said = iter(trained.rank(trained(torch.stack(whole))) if whole else [])
            for path, image in zip(batch, images, strict=True):
                yield path, image if isinstance(image, UserError) else next(said)


def table(out: TextIO, paths: Sequence[Path], names: Sequence[str], top: int) -> Writer:
    """Writes a line for each answer, in columns; errors go to stderr."""
    path_width, name_width = max(len(str(path)) for path in paths), max(map(len, names))

    def write(answer: Answer) -> None:
        path, said = answer
        if isinstance(said, UserError):
            tqdm.write(str(said), file=sys.stderr)  # above the progress bar
            return
        cells = [f"{name:<{name_width}} {100 * share:5.1f} %" for name, share in best(said, top)]
        print("  ".join([f"{path!s:<{path_width}}", *cells]), file=out)

    return write


def json_lines(out: TextIO, paths: Sequence[Path], names: Sequence[str], top: int) -> Writer:
    """Writes an object for each answer: path, and either predictions or error."""

    def write(answer: Answer) -> None:
        path, said = answer
        if isinstance(said, UserError):
            content: dict[str, object] = {"error": str(said)}
        else:
            content = {"predictions": [{"label": name, "probability": share} for name, share in best(said, top)]}
        print(json.dumps({"path": str(path)} | content, ensure_ascii=False), file=out)

    return write


def csv_rows(out: TextIO, paths: Sequence[Path], names: Sequence[str], top: int) -> Writer:
    """Writes a header, and a row for each answer."""
    rows = csv.writer(out, lineterminator="\n")
    ranks = range(1, min(top, len(names)) + 1)
    rows.writerow(["path", "error", *(f"{key}_{rank}" for rank in ranks for key in ("label", "probability"))])

    def write(answer: Answer) -> None:
        path, said = answer
        if isinstance(said, UserError):
            rows.writerow([path, said])
        else:
            rows.writerow([path, "", *(cell for name, share in best(said, top) for cell in (name, f"{share:.6f}"))])

    return write


FORMATS: dict[str, Callable[[TextIO, Sequence[Path], Sequence[str], int], Writer]] = {
    "table": table,
    "json": json_lines,
    "csv": csv_rows,
}


def best(said: Prediction, top: int) -> list[tuple[str, float]]:
    """The most probable classes with their probabilities."""
    return [*said.probabilities.items()][:top]
