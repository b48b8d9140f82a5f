"""Where the files of the project lie: in a checkout beside the package, in a wheel inside of it."""

from pathlib import Path

from hybrid_vit.utils.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
PUBLISHED = PACKAGE / "published" if (PACKAGE / "published").is_dir() else PACKAGE.parent / "outputs" / "published"


def find_run(run: str | Path) -> Path:
    """The directory of a run, by path or by its name in outputs/published.

    Raises:
        UserError: there is none.
    """
    for directory in (Path(run), PUBLISHED / str(run)):
        if (directory / "model.json").is_file():
            return directory
    published = sorted(path.parent.name for path in PUBLISHED.glob("*/model.json"))
    raise UserError(
        f"{run} is not a run directory (no model.json in it)"
        + (f" nor a published run ({', '.join(published)})" if published else "")
        + "; give a folder that hybrid_vit.train made, such as outputs/runs/DATE_NAME"
    )
