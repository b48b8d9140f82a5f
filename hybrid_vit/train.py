"""Door: train a model. `python -m hybrid_vit.train model=hybrid_192`."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from hybrid_vit import schema
from hybrid_vit.config import CONF, plain


def run(cfg: DictConfig) -> float:
    from hybrid_vit.training import train  # torch comes with it: --help and a wrong key need not wait for that

    directory = Path(HydraConfig.get().runtime.output_dir)
    return train(plain(cfg), directory, resume=cfg.resume is not None)


def main() -> None:
    schema.register()
    hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(run)()


if __name__ == "__main__":
    main()
