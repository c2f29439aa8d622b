"""What Hydra makes of a command line, for those who compose it without run.py."""

from collections.abc import Sequence

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from unrelearn.paths import CONF


def composed(words: Sequence[str] = (), *, whole: bool = False) -> DictConfig:
    """The configuration of `python run.py WORDS`, not yet validated.

    whole: with Hydra's own part.

    Raises:
        Whatever Hydra and OmegaConf raise; `explain` has words for it.
    """
    GlobalHydra.instance().clear()  # a composition that failed, or a Sweep, leaves it as it was
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config: DictConfig = hydra_compose(
            "config", overrides=list(words), return_hydra_config=whole
        )
    return config
