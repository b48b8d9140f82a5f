"""A trained run as a repository of the Hugging Face Hub: a folder that `from_pretrained` and `hybrid_vit.load` read.

config.json         how to build the model, its classes and its preprocessing; model.json is the same
model.safetensors   the weights, in half precision where that loses nothing
summary.json        of the run
model.pt2           the network for plain torch, preprocessing inside
README.md           the model card, with the Hub's metadata; config.yaml and learning_curve.png belong to it
"""

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import yaml  # type: ignore[import-untyped]
from huggingface_hub import PyTorchModelHubMixin
from huggingface_hub.errors import HFValidationError, HTTPError
from torch import Tensor

from hybrid_vit.deploy.card import ONE_RUN, further_rows, model_card, score_row
from hybrid_vit.deploy.graphs import write_graphs
from hybrid_vit.deploy.publishing import command_of, portable
from hybrid_vit.deploy.trained import Trained, load, read_description
from hybrid_vit.deploy.weights import halved, write_weights
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import write_json, write_text

CURVE = "learning_curve.png"
CARD = ("README.md", "config.yaml", CURVE)
# What belongs to the folder, and is uploaded.
WRITTEN = [*CARD, "config.json", "model.json", "model.safetensors", "summary.json", "model.pt2", "export.json"]
LIBRARY = {"library_name": "hybrid_vit", "license": "mit", "pipeline_tag": "image-classification"}
USE = """With this package, in this folder:

```python
import hybrid_vit

model = hybrid_vit.load(".")
print(model.predict("image.png").label)
```

By the name of a repository or a folder, downloaded if need be (`pip install huggingface_hub`):

```python
from hybrid_vit.deploy.hub import HubModel

model = HubModel.from_pretrained("{place}")
print(model.predict("image.png").label)
```

With torch {torch} or later alone, in this folder. Images are (B, {size}, {size}, 3) uint8; the network normalises them:

```python
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

net = torch.export.load("model.pt2").module()
class_names = json.loads(Path("config.json").read_text(encoding="utf-8"))["class_names"]
image = ImageOps.exif_transpose(Image.open("image.png")).convert("RGB")
image = ImageOps.fit(image, ({size}, {size}), Image.Resampling.BILINEAR)  # resizes, and crops the centre
logits = net(torch.from_numpy(np.array(image))[None])
print(class_names[logits.argmax()])
```

The package hybrid_vit puts a transparent image on white first, and divides 16-bit greys by 256, which `convert` makes
white.

The weights are in `model.safetensors` ({weights}), the preprocessing and the class names in `config.json`."""


class HubModel(Trained, PyTorchModelHubMixin, **LIBRARY):  # type: ignore[misc]
    """A trained network with the Hub's `from_pretrained`, `save_pretrained` and `push_to_hub`."""

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> "HubModel":
        directory = Path(model_id)
        if not directory.is_dir():
            keys = ("revision", "cache_dir", "force_download", "local_files_only", "token")
            given = {key: options[key] for key in keys}
            directory = Path(huggingface_hub.snapshot_download(model_id, **given))
        trained = load(directory)
        return cls(trained.net, read_description(directory), trained.summary, directory)

    def _save_pretrained(self, save_directory: Path) -> None:
        write_hub(self, save_directory)
        for name in CARD:
            if (self.directory / name).is_file() and self.directory.resolve() != save_directory.resolve():
                shutil.copyfile(self.directory / name, save_directory / name)


def write_hub(trained: Trained, directory: Path) -> Path:
    """Write all but the card into `directory`; returns the file that `runtimes.open_graph` takes."""
    description = portable(read_description(trained.directory))
    write_weights(directory, compact(trained.net.state_dict()))
    for name in ("config.json", "model.json"):
        write_json(directory / name, description)
    write_json(directory / "summary.json", portable(trained.summary))
    (file,) = write_graphs(trained, directory, "torch_export", preprocess=True)
    return file


def compact(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights in half precision if that loses nothing, as for those that were published in it; else as they are."""
    half = halved(weights)
    return half if all(half[key].to(value.dtype).equal(value) for key, value in weights.items()) else weights


def write_hub_card(trained: Trained, config: dict[str, Any], directory: Path, place: str) -> None:
    """Write README.md, with the Hub's metadata at its head, and what belongs to it.

    Args:
        config: of the run.
        place: what the repository is called, or "." for the folder itself.
    """
    summary, run = trained.summary, trained.directory
    top1, images, source = summary["scores"]["test_top1"], summary["images"]["test"], config["data"]["source"]
    if (run / CURVE).is_file():
        shutil.copyfile(run / CURVE, directory / CURVE)
    half = any(value.dtype == torch.half for value in compact(trained.net.state_dict()).values())
    name = run.resolve().name
    use = USE.format(
        place=place,
        torch=torch.__version__.partition("+")[0],
        size=trained.image_size,
        weights="half precision" if half else "single precision",
    )
    card = published_card(run, use) or model_card(
        name,
        summary,
        config,
        classes=len(trained.class_names),
        size=trained.image_size,
        figures=[score_row(top1, images), *further_rows(summary["scores"], images)],
        scope=ONE_RUN,
        calibration="The probabilities are not calibrated."
        if trained.temperature == 1
        else f"Before the softmax, `predict` divides the logits by the temperature {trained.temperature:.2f}.",
        use=use,
        command=command_of(run),
        curve=(directory / CURVE).is_file(),
    )
    result = {
        "task": {"type": LIBRARY["pipeline_tag"]},
        "dataset": {"name": source, "type": source, "split": "test"},
        "metrics": [{"type": "accuracy", "name": "test top-1, %", "value": top1}],
    }
    metadata = LIBRARY | {
        "tags": ["hybrid_vit", "model_hub_mixin", "pytorch_model_hub_mixin"],
        "model-index": [{"name": name, "results": [result]}],
    }
    write_text(directory / "README.md", f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n{card}")
    write_text(directory / "config.yaml", yaml.safe_dump(portable(config), sort_keys=False))


def published_card(run: Path, use: str) -> str:
    """The card of a published run, which may say more than its summary, with `use` as its section "Use".

    Empty if the run has no card.
    """
    path = run / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    _, title, text = f"\n{text}".partition("\n# ")  # without metadata of the Hub
    before, _, text = text.partition("\n## Use\n")
    _, training, text = text.partition("\n## Training\n")
    return f"{title}{before}\n## Use\n\n{use}\n{training}{text}".lstrip() if training else ""


def check_push(repository: str) -> None:
    """There is a token, and the repository may be called so; known without the network.

    Raises:
        UserError: not so.
    """
    if huggingface_hub.get_token() is None:
        raise UserError(f"push={repository} needs a token of the Hub: run `hf auth login`, or set HF_TOKEN")
    try:
        huggingface_hub.utils.validate_repo_id(repository)
        if "/" not in repository:
            raise HFValidationError("it has no user")
    except HFValidationError as error:
        raise UserError(f"push={repository} is not a valid repository name ({error}); write push=USER/NAME") from None


def push(directory: Path, repository: str) -> str:
    """Upload the folder, into a repository that is made if there is none; its address.

    Raises:
        UserError: the Hub refuses, or cannot be reached; the folder stays as it is.
    """
    hub = huggingface_hub.HfApi()
    try:
        name = hub.create_repo(repository, exist_ok=True).repo_id
        hub.upload_folder(
            repo_id=name, folder_path=directory, commit_message="hybrid_vit.export", allow_patterns=WRITTEN
        )
    except (HTTPError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"push={repository} failed ({reason}); {directory} is complete: `hf upload {repository} {directory}`"
        ) from error
    return f"{hub.endpoint}/{name}"
