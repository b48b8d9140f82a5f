"""Where the files of the project lie: in a checkout beside the package, in a wheel inside of it."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
PUBLISHED = PACKAGE.parent / "outputs" / "published"
