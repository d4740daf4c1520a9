"""Bring what a run reads from the hub into its cache, where there is a network.

    HF_HOME=/shared/hf python docs/cluster/fetch.py +experiment=paper/erf

takes the words of ``python -m gatepo.train``; with the same HF_HOME a node without a network then finds it all.
"""

from __future__ import annotations

import sys
from pathlib import Path

from huggingface_hub import snapshot_download
from hydra import compose, initialize_config_dir

from gatepo import cli, config, tiny
from gatepo.data.sources import Source
from gatepo.overrides import prepared
from gatepo.presets import register, yaml_dir
from gatepo.schema import TrainConfig


def main(words: list[str]) -> None:
    """Load the model's files and open every source of rows."""
    register()
    with initialize_config_dir(str(yaml_dir("conf").resolve()), version_base="1.3"):
        settings = config.from_composed(TrainConfig, compose("train", prepared(words)))
    model = tiny.locate(settings.model.path)
    if not Path(model).exists():
        model = snapshot_download(model, ignore_patterns=["*.bin", "*.pth", "*.gguf", "*.onnx"])
    print(f"model    {settings.model.path}: {model}")
    for part in ("sources", "evaluation"):
        for name, source in getattr(settings.data, part).items():
            found = sum(1 for _ in source.records(name, settings.data.paths(part, name)).scan())
            place = source.place(settings.data.paths(part, name)) if isinstance(source, Source) else name
            print(f"rows     {name}: {found:,} of {place}")


if __name__ == "__main__":
    with cli.errors_as_one_line():
        main(sys.argv[1:])
