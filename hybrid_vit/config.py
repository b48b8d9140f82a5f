"""Where Hydra lives: the files of `conf/` and a command line -> one plain dictionary, or one clear sentence."""

import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from hybrid_vit import schema

HERE = Path(__file__).resolve().parent
CONF = HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf"  # in a wheel, in a checkout


def composed(overrides: list[str], name: str = "train") -> DictConfig:
    """The configuration that a command line with these overrides describes."""
    schema.register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(name, overrides)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Resolved, as dictionaries, lists and numbers; nothing below the doors sees anything else."""
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
