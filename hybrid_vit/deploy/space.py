"""A trained run as a Space of Hugging Face: a folder that holds the demo, this package and the weights.

app.py             starts the page
requirements.txt   what it imports, in the versions that are installed here
README.md          what the Space is, with the settings that Hugging Face reads
hybrid_vit/        the source of this package
NAME/              the run: weights, description, scores, and what was measured of its test images
"""

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from hybrid_vit.deploy.measured import EXAMPLES, FAMILIARITY, describe, find
from hybrid_vit.deploy.publishing import portable
from hybrid_vit.deploy.trained import read_description
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import read_json, write_json, write_text
from hybrid_vit.utils.paths import PACKAGE, find_run, weights_of

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "safetensors", "hydra-core", "omegaconf", "gradio")
LIBRARIES = {"timm_model": "timm", "CvT": "transformers"}  # of a model that is another library's

APP = '''"""The demo of hybrid_vit with one trained model, at GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."""

from pathlib import Path

from hybrid_vit.deploy.demo import launch

if __name__ == "__main__":
    page, address = launch([Path(__file__).resolve().parent / {name!r}])
    print(address, flush=True)
    page.block_thread()
'''

README = """---
title: {name}
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
license: mit
---

# {name}

{sentence}

The page shows the most probable classes of an image, where the model looks, and whether the image is probably of none
of its classes. To run it on your computer (Linux or macOS): `pip install -r requirements.txt`, then `python app.py`.
"""


def targets_of(model: dict[str, Any]) -> set[str]:
    """The names of the classes or functions that build a model; of an ensemble, those of its members."""
    inner = (targets_of(member) for member in model.get("members", []))
    return {model["_target_"].rpartition(".")[2]}.union(*inner)


def write_space(run: str | Path, folder: Path) -> list[str]:
    """Write the Space of a run into `folder`, which must not be there yet or be empty.

    Args:
        run: a run directory, or the name of a published run.

    Returns:
        What it lacks of the threshold and the examples, since they were not measured yet: names of files.

    Raises:
        UserError: no such run, one without weights, a folder that holds something, or a package that is not
            installed, so that its version is not known.
    """
    source = find_run(run)
    weights = weights_of(source)
    if folder.exists() and any(path.name != ".lock" for path in folder.iterdir()):  # which a multirun holds
        raise UserError(f"{folder} is not empty; give a new folder")
    name, description = source.resolve().name, read_description(source)
    targets = targets_of(description["model"])
    packages = [*PACKAGES, *sorted(LIBRARIES[target] for target in targets & LIBRARIES.keys())]
    try:
        requirements = [f"{package}=={version(package).partition('+')[0]}" for package in packages]
        gradio = version("gradio")
    except PackageNotFoundError as error:
        raise UserError(
            f"a Space states the version of {error.name}, which is not installed here: pip install {error.name}"
        ) from None
    (folder / name).mkdir(parents=True)
    shutil.copy(weights, folder / name)
    for kept in ("model.json", "summary.json"):
        write_json(folder / name / kept, portable(read_json(source / kept)))
    measured = {kept: find(source, kept) for kept in (FAMILIARITY, EXAMPLES)}
    for path in filter(None, measured.values()):
        shutil.copy(path, folder / name)
    if (source / "README.md").is_file():
        shutil.copy(source / "README.md", folder / name)
    for path in sorted(PACKAGE.rglob("*.py")):
        copy = folder / "hybrid_vit" / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    write_text(folder / "requirements.txt", "\n".join(requirements) + "\n")
    write_text(folder / "app.py", APP.format(name=name))
    readme = README.format(
        name=name,
        gradio=gradio,
        python=".".join(platform.python_version_tuple()[:2]),
        sentence=f"An image classifier: {describe(source)}.",
    )
    write_text(folder / "README.md", readme)
    return [kept for kept, path in measured.items() if path is None]
