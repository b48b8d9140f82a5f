"""What the tests of a training share: a run from its beginning to its end."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_runs import run


@pytest.fixture(autouse=True)
def ctrl_c_is_pythons() -> Iterator[None]:
    """A command in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted, with its pictures; to be read only."""
    directory = tmp_path_factory.mktemp("whole")
    run(directory)
    return directory
