"""Weights: model.safetensors, written whole, with a checksum, and into a network again."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import replacing
from hybrid_vit.utils.paths import WEIGHTS, weights_of

AGAIN = "copy it again from the original, or train it again"


def write_weights(directory: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write model.safetensors, whole or not at all, with a checksum in its header."""
    weights = {key: value.contiguous().cpu() for key, value in tensors.items()}
    with replacing(directory / WEIGHTS) as partial:
        # save_file of safetensors makes files that nobody else may read
        partial.write_bytes(save(weights, metadata={"sha256": checksum(weights)}))


def load_weights(directory: Path) -> dict[str, Tensor]:
    """The tensors of model.safetensors.

    Raises:
        UserError: it is missing, damaged or another kind of file. Files from before there was a checksum in them are
            read without one.
    """
    path = weights_of(directory)
    try:
        with safe_open(path, "pt") as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, it is no dictionary
            expected = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is damaged or no file of weights ({reason}); {AGAIN}") from None
    if expected not in (None, checksum(weights)):
        raise UserError(f"{path} is damaged (its checksum differs); {AGAIN}")
    return weights


def halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same in half precision, but for whole numbers."""
    return {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """sha256 of names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def restore(net: nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    """Load `weights` strictly; those of another model are a UserError that names `source`."""
    try:
        net.load_state_dict(weights)
    except RuntimeError as error:
        raise another_model(source, error) from None


def another_model(source: Path, error: RuntimeError) -> UserError:
    """torch's many lines about keys and shapes, as one sentence."""
    first = str(error).splitlines()[1:2]
    return UserError(
        f"{source} holds the weights of another model ({' '.join(first).strip()}); use it with the model that wrote it"
    )
