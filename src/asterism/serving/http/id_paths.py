"""Ids in paths: any text, also slashes and line ends, at which Starlette's own `path` stops."""

from __future__ import annotations

from typing import Final

from starlette.convertors import Convertor, register_url_convertor

#: As in `f"/item/{{item_id:{ANY_TEXT}}}"`.
ANY_TEXT: Final = "any_text"


class AnyText(Convertor[str]):
    """Takes whatever there is."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """As it is."""
        return value

    def to_string(self, value: str) -> str:
        """As it is."""
        return value


register_url_convertor(ANY_TEXT, AnyText())
