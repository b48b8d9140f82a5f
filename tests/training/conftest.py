"""What the tests of a training share: a run from its beginning to its end."""

from pathlib import Path

import pytest
from small_runs import run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted, with its pictures; to be read only."""
    directory = tmp_path_factory.mktemp("whole")
    run(directory)
    return directory
