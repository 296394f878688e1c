"""A browser for the tests of pages."""

from collections.abc import Iterator

import pytest
from browser import Browser, chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("needs Chromium (Debian: apt-get install --no-install-recommends chromium)")
    with Browser(program) as started:
        yield started
