"""An application of Hydra that knows nothing of the ledger: its config names the callback."""

import time
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig


@hydra.main(version_base="1.3", config_path=".", config_name="config")
def app(config):
    with Path(config.journal).open("a") as file:
        file.write(f"{HydraConfig.get().job.num} {' '.join(HydraConfig.get().overrides.task)}\n")
    time.sleep(config.seconds)
    if config.x in config.bad:
        raise ValueError(f"x={config.x} is bad")
    Path(HydraConfig.get().runtime.output_dir, "result.txt").write_text(str(config.x))
    return float((config.x - 2) ** 2 + config.y)


if __name__ == "__main__":
    app()
