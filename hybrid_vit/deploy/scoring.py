"""A trained run and its data, together again: run directory -> test images as it saw them -> scores."""

from itertools import islice
from typing import Any

import torch
from scipy.sparse import csr_array
from torch import Tensor, nn
from tqdm import tqdm

from hybrid_vit.augment import Augment
from hybrid_vit.data.module import DataModule, changed_classes, changes_of_test_set
from hybrid_vit.deploy.trained import Trained
from hybrid_vit.evaluation.scoring import logits_of, score
from hybrid_vit.fast.accelerator import Choice
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import read_json


def load_data(trained: Trained, given: dict[str, Any], *, same: bool = False) -> DataModule:
    """The data that a run was trained on, split as there.

    Args:
        given: settings of the data that replace the run's own, unless they are None.
        same: the test set must be the one that was scored in training.

    Raises:
        UserError: it has other classes now, or another test set than it must.
    """
    description = read_json(trained.directory / "model.json")
    own = description["data"] | {"check": False} | {key: value for key, value in given.items() if value is not None}
    data = DataModule(**own, batch_size=1, augment=Augment(), seed=description["seed"])
    data.setup()
    if data.class_names != trained.class_names:
        raise UserError(
            f"data.root={own['root']} has {changed_classes(trained.class_names, data.class_names)} than "
            f"{trained.directory} was trained on; give that run's data"
        )
    if same and (found := changes_of_test_set(trained.fingerprint, data.fingerprint())):
        raise UserError(
            f"the test set is not that of {trained.directory}: {', '.join(found)}; give that data with data.root=PATH"
        )
    return data


def score_test_set(
    net: nn.Module, data: DataModule, choice: Choice, batches: int | None = None
) -> tuple[dict[str, float], csr_array]:
    """Scores, with "images", and the confusion matrix of `net` as it is, on the device of `choice`.

    Args:
        batches: how many of the test set; None for all.
    """
    loader = data.test_dataloader()
    total = len(loader) if batches is None else batches
    scored = score(
        net.to(choice.device, choice.dtype),
        tqdm(islice(loader, total), "test images", total=total, unit="batch", leave=False, disable=None),
        normalize=data.normalize,
        num_classes=data.num_classes,
        parts=data.class_parts,
        device=choice.device,
        bf16=choice.bf16,
    )
    data.teardown("test")  # ends the processes that read pictures
    return scored


def logits_of_part(net: nn.Module, data: DataModule, choice: Choice, part: str) -> tuple[Tensor, Tensor]:
    """(N, C) logits and (N,) labels of "train", "val" or "test", on the device of `choice`."""
    net, batches = net.to(choice.device, choice.dtype), data.whole(part)
    answers = logits_of(net, batches, normalize=data.normalize, device=choice.device, bf16=choice.bf16)
    logits, labels = map(torch.cat, zip(*answers, strict=True))
    data.teardown("test")
    return logits, labels
