"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

DATA = Path(os.environ.get("HISSBT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture
def market_data() -> Path:
    """Folder of real market data; tests that need it skip where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no market data at {DATA}: set HISSBT_TEST_DATA")
    return DATA
