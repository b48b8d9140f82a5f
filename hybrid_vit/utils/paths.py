"""Where the files of the project lie: in a checkout beside the package, in a wheel inside of it."""

import os
from pathlib import Path

from hybrid_vit.utils.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
PUBLISHED = PACKAGE / "published" if (PACKAGE / "published").is_dir() else PACKAGE.parent / "outputs" / "published"


def cache_folder() -> Path:
    """Where the user's programs keep what they can compute again, as the XDG specification says."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hybrid_vit"


def published() -> list[Path]:
    """The directories of the published runs, by name."""
    return sorted(path.parent for path in PUBLISHED.glob("*/model.json"))


def find_run(run: str | Path) -> Path:
    """The directory of a run, by path or by its name in outputs/published.

    Raises:
        UserError: there is none.
    """
    for directory in (Path(run), PUBLISHED / str(run)):
        if (directory / "model.json").is_file():
            return directory
    names = ", ".join(path.name for path in published())
    raise UserError(
        f"{run} is not a run directory (no model.json in it)"
        + (f" nor a published run ({names})" if names else "")
        + "; give a folder that hybrid_vit.train made, such as outputs/runs/DATE_NAME"
    )
