"""A CSV that lists pictures, in columns path, label and perhaps split -> the pictures of each split and class."""

import csv
import os
from collections import Counter
from pathlib import Path

from hybrid_vit.data.folders import SPLITS, split_of
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.paths import composed


def listed_pictures(listing: Path) -> dict[str, dict[str, list[Path]]]:
    """Split -> class -> files, all sorted; every split has all classes, perhaps without files.

    Paths are relative to the folder of the CSV, or absolute. Splits are called as `folders.SPLITS` says; without that
    column all pictures are for training.

    Raises:
        UserError: a column, a label, a split or a file that is missing or unknown, a path that is listed twice, fewer
            than two classes, or a class without a picture to train on.
    """
    try:
        with listing.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = reader.fieldnames or [], [(reader.line_num, row) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{listing} cannot be read as a CSV ({error}); save it again, in UTF-8") from None
    if missing := {"path", "label"} - {*columns}:
        raise UserError(
            f"{listing} has no column {' and no column '.join(sorted(missing))}; its first line must be path,label or "
            "path,label,split"
        )
    found: list[tuple[str, str, Path]] = []
    for line, row in rows:
        name, label = row["path"], composed((row["label"] or "").strip())
        split = split_of((row["split"] or "").strip()) if "split" in columns else "train"
        if not name or not label:
            missing_cell = "label" if name else "path"
            raise UserError(f"{listing}, line {line}: it has no {missing_cell}; add it, or delete the row")
        if split is None:
            raise UserError(
                f"{listing}, line {line}: split {row['split']!r} is unknown; use one of {', '.join(SPLITS)}"
            )
        path = listing.parent / name
        if ".." in Path(name).parts:  # else one file could have several names; links behind it keep theirs
            last = len(path.parts) - path.parts[::-1].index("..")
            path = Path(*path.parts[:last]).resolve() / Path(*path.parts[last:])
        found.append((split, label, path))
    count = Counter(os.path.realpath(path) for _, _, path in found)
    twice = [path for _, _, path in found if count[os.path.realpath(path)] > 1]
    if twice:
        raise UserError(f"{listing} lists {twice[0]} more than once; keep one of its rows")
    absent = [path for _, _, path in found if not path.is_file()]
    if absent:
        more = f" and {len(absent) - 1} more" if absent[1:] else ""
        raise UserError(
            f"{listing} lists {absent[0]}{more}, which cannot be found; paths are relative to {listing.parent}"
        )
    classes = sorted({label for _, label, _ in found})
    if len(classes) < 2:
        raise UserError(f"{listing} lists {len(classes)} classes; list at least two")
    splits: dict[str, dict[str, list[Path]]] = {
        split: {label: [] for label in classes} for split in SPLITS if any(each == split for each, _, _ in found)
    }
    for split, label, path in sorted(found):
        splits[split][label].append(path)
    empty = [label for label in classes if not splits.get("train", {}).get(label)]
    if empty:
        raise UserError(
            f"{listing} lists no picture of class {empty[0]!r} to train on; add some, or leave that class out"
        )
    return splits
