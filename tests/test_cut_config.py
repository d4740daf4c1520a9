"""A config.yaml that a copy has cut off is refused, wherever that was."""

from pathlib import Path

import pytest
from composed import typed

from gatepo import config, run
from gatepo.errors import UserError


def test_a_config_cut_behind_a_line_is_refused(tmp_path: Path) -> None:
    """Behind those below ``tracker:``, the last of what must be given, it was read with defaults for what was gone."""
    settings = typed("tracker=wandb", "batch.prompts=4", "checkpoint.every=7")
    run._write_config(tmp_path, settings)
    path = tmp_path / "config.yaml"
    whole = path.read_text()
    assert config.load(path) == settings
    lines = whole.splitlines(keepends=True)
    for end in range(lines.index("tracker:\n"), len(lines)):
        path.write_text("".join(lines[:end]))
        with pytest.raises(UserError):
            config.load(path)
    path.write_text(whole[:-1])
    with pytest.raises(UserError, match="must be whole"):
        config.load(path)


def test_a_config_of_the_version_before_or_written_anew_by_hand_has_no_last_line_and_is_read(tmp_path: Path) -> None:
    settings = typed("batch.prompts=4")
    run._write_config(tmp_path, settings)
    path = tmp_path / "config.yaml"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if not line.startswith("#")))
    assert config.load(path) == settings
