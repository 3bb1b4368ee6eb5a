"""One small market for all tests of this folder."""

from __future__ import annotations

import pytest

from asterism.data.market import Market, MarketConfig


@pytest.fixture(scope="session")
def market() -> Market:
    return Market.generate(MarketConfig(users=400, items=300, days=30, seed=7))
