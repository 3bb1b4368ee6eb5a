"""The vocabulary of the data contract: column names, kinds of action, kinds of item."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Action(StrEnum):
    """What a user did to an item; the order fixes the integer codes kept on disk."""

    IMPRESSION = "impression"
    CLICK = "click"
    VIEW = "view"
    CART = "cart"
    PURCHASE = "purchase"
    FAVORITE = "favorite"
    SHARE = "share"
    RATING = "rating"
    SKIP = "skip"
    DISLIKE = "dislike"


ACTIONS: Final[tuple[Action, ...]] = tuple(Action)
ACTION_CODES: Final[dict[str, int]] = {action.value: code for code, action in enumerate(ACTIONS)}

#: Actions that say "the user wanted this": only they enter histories and targets.
POSITIVE_ACTIONS: Final[frozenset[Action]] = frozenset(ACTIONS) - {
    Action.IMPRESSION,
    Action.SKIP,
    Action.DISLIKE,
}


class Kind(StrEnum):
    """What an item is."""

    PRODUCT = "product"
    VIDEO = "video"
    ARTICLE = "article"
    MUSIC = "music"
    MOVIE = "movie"


USER_ID: Final = "user_id"
ITEM_ID: Final = "item_id"
TIMESTAMP: Final = "timestamp"
NANOSECONDS: Final = "nanoseconds_of_second"  # of the second that TIMESTAMP names
ACTION: Final = "action"
VALUE: Final = "value"
SESSION_ID: Final = "session_id"
SCENE: Final = "scene"
DEVICE: Final = "device"
LOCATION: Final = "location"
SPLIT: Final = "split"
TITLE: Final = "title"
DESCRIPTION: Final = "description"
CATEGORIES: Final = "categories"
BRAND: Final = "brand"
PRICE: Final = "price"
KIND: Final = "kind"
CREATED_AT: Final = "created_at"
IMAGE: Final = "image"
AVAILABLE: Final = "available"
EMBEDDING_PREFIX: Final = "embedding_"
