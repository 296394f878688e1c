"""What the tests of exports share."""

from typing import Any

import pytest
from exporting import TINY, make_encoder

from medssl.nn import Encoder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Encoder, dict[str, Any]]:
    """A small encoder and its card."""
    return make_encoder(tmp_path_factory.mktemp("tiny"), TINY)
