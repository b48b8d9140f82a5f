"""MedMNIST: an .npz of small medical images -> tensors of its splits. Yang et al. 2023 (Scientific Data 10, 41)."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.paths import expanded

ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left"),
    *("lung-right", "pancreas", "spleen"),
)
# Names of the classes, which the files do not hold; those of other files are called by their numbers.
NAMES: dict[str, tuple[str, ...]] = {
    "pathmnist": (
        *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa"),
        *("cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
    ),
    "dermamnist": (
        *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions"),
        *("dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "breastmnist": ("malignant", "normal or benign"),
    "bloodmnist": (
        *("basophil", "eosinophil", "erythroblast", "immature granulocyte", "lymphocyte", "monocyte", "neutrophil"),
        "platelet",
    ),
    "tissuemnist": (
        *("collecting or connecting duct", "distal convoluted tubule", "glomerular endothelial cell"),
        *("interstitial endothelial cell", "leukocyte", "podocyte", "proximal tubule segment", "thick ascending limb"),
    ),
    **dict.fromkeys(("organamnist", "organcmnist", "organsmnist"), ORGANS),
}
Split = tuple[Tensor, Tensor]  # (N, 3, H, W) uint8 and (N,) int64


def read_medmnist(root: str | Path | None) -> tuple[dict[str, Split], list[str]]:
    """The splits "train", "val" and "test" of a file, and the names of its classes; grey images become RGB.

    Args:
        root: the .npz, or a folder that holds one and no other.

    Raises:
        UserError: no such file, a damaged one, or one without two-dimensional images of one label each.
    """
    path = find_file(root)
    names = ("train", "val", "test")
    try:
        with path.open("rb") as content:
            file = np.load(content, allow_pickle=False)
            arrays = [(file[f"{name}_images"], file[f"{name}_labels"]) for name in names]
    except (OSError, EOFError, LookupError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise _unusable(path, " ".join(str(error).split())) from None
    splits = {name: as_tensors(path, *pair) for name, pair in zip(names, arrays, strict=True)}
    count = 1 + max(int(labels.max()) for _, labels in splits.values())
    known = next((classes for name, classes in NAMES.items() if path.name.lower().startswith(name)), ())
    return splits, list(known) if len(known) == count else [str(i) for i in range(count)]


def find_file(root: str | Path | None) -> Path:
    """The .npz that `root` is or holds."""
    if root is None:
        raise UserError("data=medmnist needs a file; set data.root=FILE.npz")
    path = expanded(root)
    found = sorted(path.glob("*.npz")) if path.is_dir() else [path]
    if len(found) != 1 or found[0].suffix != ".npz" or not found[0].is_file():
        holds = f"it holds {', '.join(file.name for file in found) or 'none'}" if path.is_dir() else "it is none"
        raise UserError(f"data.root={root} must be an .npz of MedMNIST or a folder with one, and {holds}")
    return found[0]


def as_tensors(path: Path, images: np.ndarray, labels: np.ndarray) -> Split:
    """(N, H, W[, 3]) uint8 and (N[, 1]) numbers -> (N, 3, H, W) uint8 and (N,) int64."""
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise _unusable(path, f"images of shape {images.shape}, which must be (N, H, W) or (N, H, W, 3) of uint8")
    if labels.shape not in ((len(images),), (len(images), 1)) or not len(images):
        raise _unusable(path, f"{len(images)} images with labels of shape {labels.shape}, one an image is needed")
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise _unusable(path, f"labels of {labels.dtype}, which must be whole numbers from 0 on")
    pixels = torch.from_numpy(images)
    pixels = pixels[:, None].expand(-1, 3, -1, -1) if images.ndim == 3 else pixels.permute(0, 3, 1, 2)
    return pixels, torch.from_numpy(labels.astype(np.int64)).flatten()


def _unusable(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} cannot be used ({reason}); give a file of MedMNIST with two-dimensional images of one label each"
    )
