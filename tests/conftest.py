"""What the tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import REPO

from gatepo.errors import UserError

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing here may reach for the network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a test leaves in the environment (DeepSpeed's LOCAL_RANK, say) is not there for the next."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real rows (GATEPO_DATA); tests that need it skip where it is absent."""
    folder = Path(os.environ.get("GATEPO_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set GATEPO_DATA")
    return folder


@pytest.fixture(scope="session")
def tiny_model():
    """The embedded model, for reading only."""
    import torch

    from gatepo.model import load_model

    return load_model("tiny", torch.device("cpu"), None)


@pytest.fixture(scope="session")
def tiny_tokenizer():
    from gatepo.model import load_tokenizer

    return load_tokenizer("tiny")


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    """What a refusal says, which must be one line."""
    assert "\n" not in str(error.value)
    return str(error.value)
