"""Bodies of the admin side: strict about types, ranges and unknown fields."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from asterism.core.records import Kind
from asterism.serving.deploying import NAME
from asterism.serving.http.requests import Body, Id, Label, Price

_LARGEST: Final = 2**53  # what every reader of JSON keeps exactly


def _is_free(name: str) -> str:
    if name == "user_id":
        raise ValueError("is the user's own name for themselves, and cannot be an attribute")
    return name


def _is_no_integer(value: object) -> object:
    if isinstance(value, int):  # beyond what is kept exactly; as a float it would be another number
        raise ValueError("is larger than an integer may be; send it as text")
    return value


_TEXT: Final = r"^[^\x00]*$"  # no database keeps a zero character

NewId = Annotated[Id, Field(pattern=_TEXT)]
Line = Annotated[str, Field(min_length=1, max_length=1000, pattern=_TEXT)]
Prose = Annotated[str, Field(max_length=20_000, pattern=_TEXT)]
Image = Annotated[str, Field(max_length=262_144, pattern=r"^\s*<[^\x00]*$")]  # SVG text
Seconds = Annotated[int, Field(ge=-_LARGEST, le=_LARGEST)]
Attribute = (
    Annotated[str, Field(max_length=1000, pattern=_TEXT)]
    | bool
    | Annotated[int, Field(ge=-_LARGEST, le=_LARGEST)]
    | Annotated[float, Field(allow_inf_nan=False), BeforeValidator(_is_no_integer)]
    | None
)
AttributeName = Annotated[Label, Field(pattern=_TEXT), AfterValidator(_is_free)]
MOST_ATTRIBUTES: Final = 100  # of a user
Attributes = Annotated[dict[AttributeName, Attribute], Field(max_length=MOST_ATTRIBUTES)]
Categories = Annotated[list[Line], Field(max_length=100)]


class ItemBody(Body):
    """An item as a whole; what is not named is empty."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Lamp with a paper shade", "price": 24.5}]})

    title: Line
    description: Prose | None = None
    categories: Categories = []  # noqa: RUF012  # pydantic copies it
    brand: Line | None = None
    price: Price | None = None
    kind: Annotated[Kind, Field(strict=False)] = Kind.PRODUCT
    created_at: Seconds | None = None  # Unix seconds
    available: bool = True
    hidden: bool = False
    image: Image | None = None  # SVG text; where there is none, the earlier one stays


class NewItemBody(ItemBody):
    """A new item."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"item_id": "i43", "title": "Lamp", "categories": ["home", "lamps"], "price": 19.0}]
        }
    )

    item_id: NewId


class ItemChanges(Body):
    """What is to be changed of an item; all else stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"price": 17.5}, {"available": False}]})

    title: Line = ""
    description: Prose | None = None
    categories: Categories = []  # noqa: RUF012  # pydantic copies it
    brand: Line | None = None
    price: Price | None = None
    kind: Annotated[Kind, Field(strict=False)] = Kind.PRODUCT
    created_at: Seconds | None = None
    available: bool = True
    hidden: bool = False
    image: Image | None = None

    def changes(self) -> dict[str, Any]:
        """The named fields alone."""
        return self.model_dump(exclude_unset=True)


class UserBody(Body):
    """All that is known of a user."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"attributes": {"city": "Vega", "age": 31}}]})

    attributes: Attributes = {}  # noqa: RUF012


class NewUserBody(UserBody):
    """A new user."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": "u9", "attributes": {"city": "Vega"}}]})

    user_id: NewId


class UserChanges(Body):
    """Attributes that are to be changed; null takes one away."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"attributes": {"city": None, "age": 32}}]})

    attributes: Attributes


class DeployBody(Body):
    """A bundle by the name of its folder, beside the one that is served."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"bundle": "beauty-2026-11"}]})

    bundle: Annotated[str, Field(pattern=NAME)]
