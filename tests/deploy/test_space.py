"""A run as a Space of Hugging Face: complete in itself, and its page answers."""

import os
import re
import subprocess
import sys
import urllib.request
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires, version
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from served import served

from hybrid_vit.deploy.space import targets_of, write_space

DIGIT = Path(__file__).parents[2] / "docs" / "digit.png"
pytestmark = pytest.mark.skipif(find_spec("gradio") is None, reason="needs gradio: pip install -e '.[demo]'")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spaces") / "cifar"
    folder.mkdir()
    (folder / ".lock").touch()  # as a multirun leaves it
    assert write_space("fast_4m", folder) == []
    (folder / ".lock").unlink()
    return folder


def test_it_is_complete(space: Path) -> None:
    assert {path.name for path in space.iterdir()} == {
        "README.md",
        "app.py",
        "hybrid_vit",
        "fast_4m",
        "requirements.txt",
    }
    assert {path.name for path in (space / "fast_4m").iterdir()} == {
        *("README.md", "examples.png", "familiarity.json", "model.json", "model.safetensors", "summary.json")
    }
    _, settings, text = (space / "README.md").read_text().split("---\n")
    found = yaml.safe_load(settings)
    assert (found["sdk"], found["sdk_version"], found["app_file"]) == ("gradio", version("gradio"), "app.py")
    assert (found["title"], found["license"]) == ("fast_4m", "mit")
    assert "100 classes of cifar100" in text


def closure(packages: list[str]) -> set[str]:
    """What pip installs with these distributions, themselves included."""
    found: set[str] = set()
    waiting = [*packages]
    while waiting:
        name = re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", waiting.pop(), maxsplit=1)[0]).lower()
        if name not in found:
            found.add(name)
            with suppress(PackageNotFoundError):  # of another system or version of Python
                waiting += [each for each in requires(name) or [] if "extra ==" not in each]
    return found


def test_the_libraries_of_an_ensemble_are_those_of_all_members() -> None:
    timm, ours = {"_target_": "hybrid_vit.models.timm_model"}, {"_target_": "hybrid_vit.models.hybrid_vit"}
    inner = {"_target_": "hybrid_vit.models.Ensemble", "members": [timm, ours]}
    assert targets_of({**inner, "members": [inner, ours]}) == {"Ensemble", "timm_model", "hybrid_vit"}


def test_what_it_imports_is_required(space: Path) -> None:
    """It answers where nothing can be imported but what its requirements.txt installs."""
    listed = (space / "requirements.txt").read_text().split()
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in listed)
    installed = closure(listed)
    others = {
        name
        for name, packages in packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", package).lower() for package in packages} & installed
    } - {"hybrid_vit"}
    assert {"lightning", "torchmetrics", "timm", "scipy", "matplotlib"} <= others
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({others!r}))\nfrom pathlib import Path\n"
        "from hybrid_vit.deploy.demo import Models, make_page\nimport gradio, hybrid_vit\n"
        "page = make_page(gradio, models := Models([Path('fast_4m')], None))\n"
        "assert page.delete_cache == (3600, 3600)\n"
        f"inspector = models.inspector('fast_4m')\nimage = inspector.see({str(DIGIT)!r})\n"
        "assert len(inspector.answer(image).top) == 5 and len(inspector.look(image)) == 3\n"
        "assert inspector.measuring.status.startswith('The training images are not part of this')\n"
        "assert Path(hybrid_vit.__file__).parent == Path('hybrid_vit').resolve()"
    )
    environment = os.environ | {"PYTHONPATH": str(space)}
    subprocess.run([sys.executable, "-c", code], cwd=space, env=environment, check=True)


@pytest.mark.slow
def test_its_page_answers(space: Path) -> None:
    environment = {"PYTHONPATH": str(space), "GRADIO_TEMP_DIR": str(space / "files")}
    with (
        served(["app.py"], space, **environment) as address,
        urllib.request.urlopen(f"{address}/config", timeout=60) as response,
    ):
        assert "100 classes of cifar100" in response.read().decode()


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        write_space("fast_4m", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_package_that_is_missing_is_a_sentence_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("hybrid_vit.deploy.space.version", missing)
    with pytest.raises(ValueError, match="a Space states the version of torch, which is not installed"):
        write_space("fast_4m", tmp_path / "space")
    assert not (tmp_path / "space").exists()
