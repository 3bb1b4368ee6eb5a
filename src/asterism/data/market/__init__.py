"""A simulated market whose true probabilities are known: demo data, and the answer key for experiments."""

from asterism.data.market.config import Blend, MarketConfig
from asterism.data.market.market import History, Market
from asterism.data.market.response import Event

__all__ = ["Blend", "Event", "History", "Market", "MarketConfig"]
