"""Classifying many images: names of files, folders and patterns -> paths -> answers, as a stream."""

import csv
import glob
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor
from tqdm import tqdm

from hybrid_vit.data.folders import LeftOut, has_readable_suffix, in_words, pictures_in
from hybrid_vit.deploy.trained import Prediction, Trained
from hybrid_vit.utils.errors import UserError

Answer = tuple[Path, Prediction | UserError]
Writer = Callable[[Answer], None]
READERS = 4  # images that are decoded at once


def find_images(places: Sequence[str]) -> list[Path]:
    """The files that `places` mean: files, folders at any depth, patterns; "-" stands for the lines of standard input.

    What folders and patterns leave out is counted on stderr. A place without an image is among the files: reading it
    will say what is wrong with it.

    Raises:
        UserError: no place has an image.
    """
    names: list[str] = []
    for place in places:
        if place == "-":
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(errors="surrogateescape")  # a name may hold any byte
            names += [line for text in sys.stdin or () if (line := text.rstrip("\r\n"))]
            if any("\0" in name for name in names):
                raise UserError("the standard input is not a list of names; give one name on each line")
        else:
            names.append(place)
    if not names:
        raise UserError("the standard input names no image; write one name on each line")
    names = [os.path.expanduser(name) for name in names]
    left_out = LeftOut()
    found = [images_at(name, left_out) for name in names]
    if left_out:
        print(f"left out: {in_words(left_out)}", file=sys.stderr)
    if not any(found):
        more = f" and {len(names) - 1} more" if names[1:] else ""
        raise UserError(
            f"no image was found at {names[0]}{more}; give image files, folders, patterns, or - for names on stdin"
        )
    return [image for name, images in zip(names, found, strict=True) for image in images or [Path(name)]]


def images_at(place: str, left_out: LeftOut) -> list[Path]:
    """The file, the images of the folder, or those of all that the pattern matches; what is left out is counted."""
    # Unlike Path.is_dir, these say no where the answer is an error, as of a name that is too long.
    if os.path.isdir(place):
        return pictures_in(Path(place), left_out)
    if os.path.exists(place):
        return [Path(place)]
    found: list[Path] = []
    folders: set[Path] = set()
    for path in map(Path, sorted(glob.glob(place, recursive=True))):
        if not folders.isdisjoint([path, *path.parents]):  # "**" matches what lies in them, too
            continue
        if os.path.isdir(path):
            found += pictures_in(path, left_out)
            folders.add(path)
        elif has_readable_suffix(path, left_out):
            found.append(path)
    return found


def answers(trained: Trained, paths: Sequence[Path], *, batch_size: int) -> Iterator[Answer]:
    """The prediction for each path, in order, or the error that says why its file cannot be read."""

    def read(path: Path) -> Tensor | UserError:
        try:
            return trained.preprocess(path)[0]
        except UserError as error:
            return error
        except MemoryError:
            return UserError(f"{path} needs more memory than there is; make it smaller")

    with ThreadPoolExecutor(READERS) as pool:
        for first in range(0, len(paths), batch_size):
            batch = paths[first : first + batch_size]
            images = [*pool.map(read, batch)]
            whole = [image for image in images if isinstance(image, Tensor)]
            with torch.inference_mode():
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
    unicode = (out.encoding or "utf-8").lower().replace("-", "") == "utf8"

    def write(answer: Answer) -> None:
        path, said = answer
        if isinstance(said, UserError):
            content: dict[str, object] = {"error": str(said)}
        else:
            content = {"predictions": [{"label": name, "probability": share} for name, share in best(said, top)]}
        print(json.dumps({"path": str(path)} | content, ensure_ascii=not unicode), file=out)

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
