"""Files: written whole or not at all, in UTF-8; read with errors that name the file; directories held by one process.

A file is written beside its final name, flushed to the disk and renamed, so a reader sees the old file or the new one.
"""

import csv
import fcntl
import io
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from hybrid_vit.utils.errors import UserError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; at the end of the block it becomes `path`, after an error it is deleted."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, in UTF-8 with "\\n" at the end of lines."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")  # a path may hold any byte


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json_text(content))


def json_text(content: Any) -> str:
    """The content of a JSON file; NaN and infinities, which JSON does not have, are null in it."""
    return json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def finite(content: Any) -> Any:
    """The same dictionaries and sequences with None for each number that is not finite."""
    if isinstance(content, Mapping):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [*map(finite, content)]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_csv(path: Path, rows: Sequence[Mapping[str, float | str]]) -> None:
    """Write `rows` whole or not at all; the columns are those of all rows, in order of appearance."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_json(path: Path, remedy: str = "") -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Args:
        path: the file.
        remedy: what the user can do if it is missing or damaged; ends the sentence of the error.

    Raises:
        UserError: it is missing, empty, damaged or holds something else; names the file.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8", errors="surrogateescape"))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read ({reason}){remedy and f'; {remedy}'}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} cannot be read (it holds no JSON object){remedy and f'; {remedy}'}")
    return content


class Lock:
    """A file that one process at a time holds, until it lets go or ends, be it killed; it says who holds it.

    The system releases the lock of a process that ends, so no lock is ever stale.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def acquire(self, *, wait: bool = True) -> bool:
        """Whether it is held now; with `wait` it will be."""
        file = self.path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        except OSError as error:
            file.close()
            raise UserError(
                f"{self.path} cannot be locked ({error.strerror}): its file system has no locks; choose a directory on "
                "another one"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}\n")
        file.flush()
        self._file = file
        return True

    def holder(self) -> str:
        """'process 4711 on HOST': who holds it, or held it last."""
        return self.path.read_text(encoding="utf-8").strip() or "another process"

    def free(self) -> bool:
        """Whether no process holds it."""
        if not self.path.exists():
            return True
        with self.path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:  # the file system has no locks
                return True
        return True

    def left(self) -> bool:
        """Whether the process that held it last ended without letting go, as one that is killed does."""
        return self.free() and self.path.exists() and bool(self.path.stat().st_size)

    def release(self) -> None:
        if self._file is not None:
            self._file.truncate(0)
            fcntl.flock(self._file, fcntl.LOCK_UN)  # closing alone leaves it to processes that were forked meanwhile
            self._file.close()
            self._file = None

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()
