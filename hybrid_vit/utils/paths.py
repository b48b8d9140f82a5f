"""Paths: where the project lies (in a wheel inside of the package), runs by their names, the spelling of names."""

import os
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hybrid_vit.utils.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
PUBLISHED = PACKAGE / "published" if (PACKAGE / "published").is_dir() else PACKAGE.parent / "outputs" / "published"
LOCATED = ("folder", "medmnist")  # sources of data whose root says which data it is
WEIGHTS = "model.safetensors"  # of a run
HERE = Path("outputs") / "published"  # where `hybrid_vit.publish` writes


def images_place(source: str | None, root: str | None) -> str | None:
    """The last part of the root, which a published run keeps; None for a source that is known without its root."""
    return Path(root or "").name if source in LOCATED else None


def same_place(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether two settings of data, with `source` and `root`, are of one place, or of one that was moved.

    Two roots with the same name are one that was moved, unless both are there.
    """
    places = [images_place(data["source"], data["root"]) for data in (before, now)]
    old, new = (expanded(data["root"] or "") for data in (before, now))
    there = places[0] is not None and old.exists() and new.exists()
    return places[0] == places[1] and (not there or old.samefile(new))


def expanded(path: str | Path) -> Path:
    """A path with the folder of its user for `~` or `~name`; with an unknown name as it is."""
    return Path(os.path.expanduser(path))


def composed(name: str) -> str:
    """A name in the one form of Unicode (NFC): some systems and archives write an accent as a character of its own."""
    return unicodedata.normalize("NFC", name)


def shown(path: Path) -> Path:
    """A path as it is printed: relative to the working directory, if it lies below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def published() -> list[Path]:
    """The directories of the published runs, by name: those of the project, and those published in this folder."""
    found = [path.parent for folder in (HERE, PUBLISHED) for path in folder.glob("*/model.json")]
    return sorted({path.name: path for path in found}.values(), key=lambda path: path.name)


def check_vacant(directory: Path) -> None:
    """A directory that is to hold a model holds none yet.

    Raises:
        UserError: it does.
    """
    if (directory / "model.json").is_file():
        raise UserError(f"{directory} holds a model already; choose another name, or delete it")


@contextmanager
def complete(directory: Path) -> Iterator[None]:
    """A model whose writing fails or is stopped in this block is none: its directory is vacant again."""
    try:
        yield
    except BaseException:
        (directory / "model.json").unlink(missing_ok=True)
        raise


def find_run(run: str | Path) -> Path:
    """The directory of a run, by path or by the name that it was published under ("NAME" or "published/NAME").

    Raises:
        UserError: there is none.
    """
    name = str(run).removeprefix("published/")
    for directory in (expanded(run), PUBLISHED / name, HERE / name):
        if (directory / "model.json").is_file():
            return directory
    names = ", ".join(path.name for path in published())
    raise UserError(
        f"{run} is not a run directory (no model.json in it)"
        + (f" nor a published run ({names})" if names else "")
        + "; give a folder that hybrid_vit.train made, such as outputs/runs/DATE_NAME"
    )


def weights_of(directory: Path) -> Path:
    """The file of weights of a run.

    Raises:
        UserError: it is missing.
    """
    path = directory / WEIGHTS
    if not path.exists():
        raise UserError(f"{directory} has no {WEIGHTS}: the run is not done; finish it with resume={directory}")
    return path
