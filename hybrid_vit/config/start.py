"""What a run takes from the one that it starts from: its model, and how its images are normalised."""

import re
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hybrid_vit.config import schema
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.files import read_json
from hybrid_vit.utils.paths import find_run

TIME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_")  # with which the names of run directories begin


def start_from(cfg: DictConfig, run: str, *, model: bool, files: Sequence[dict[str, Any]] = ()) -> None:
    """Give `cfg` the mean, the std and the model of a run, whose images its weights were trained on.

    Args:
        cfg: composed from the groups; what the command line sets comes later.
        run: its directory, or the name of a published run.
        model: false where a model is chosen.
        files: what they set of the model (unless one is chosen), the mean and the std is set again.

    Raises:
        UserError: no such run, one that this version cannot read, or a file that does not fit its model.
    """
    directory = find_run(run)
    path = directory / "model.json"
    description = read_json(path)
    if "${" in str(description):  # it may come from a stranger
        raise UserError(f"{path} refers to what is outside of it; write the value there instead")
    if "members" in (description.get("model") or {}):
        raise UserError(f"init_from={run} is an ensemble, which is not trained further; give one of its members")
    try:
        cfg.data.mean, cfg.data.std = description["mean"], description["std"]
        if model:
            cfg.model = typed(description["model"])
            cfg.model.num_classes = "${data.num_classes}"
            name = re.sub(r"[^\w.-]+", "_", TIME.sub("", directory.resolve().name))
            cfg.hydra.runtime.choices.model = name
    except (AttributeError, KeyError, TypeError, OmegaConfBaseException) as error:
        raise UserError(
            f"{path} is damaged or of another version ({str(error).splitlines()[0]}); "
            "copy it again from the original, or train it again"
        ) from None
    for file in files:
        data = {key: value for key, value in file.get("data", {}).items() if key in ("mean", "std")}
        try:
            OmegaConf.update(cfg, "data", data, merge=True)
            if model:
                OmegaConf.update(cfg, "model", file.get("model", {}), merge=True)
        except OmegaConfBaseException as error:
            raise UserError(
                f"the chosen files set {error.full_key}, which the model of init_from={run} does not have; leave it out"
            ) from None


def typed(spec: dict[str, Any]) -> DictConfig:
    """The description of a part, with the types and the newer keys of its schema; it loads no library's weights."""
    parts = {key: typed(value) for key, value in spec.items() if isinstance(value, dict) and "_target_" in value}
    node = OmegaConf.merge(OmegaConf.structured(schema.PARTS[spec["_target_"]]), spec | parts)
    assert isinstance(node, DictConfig)
    if "pretrained" in node:
        node.pretrained = False
    return node
