"""From a request's path to the label of its route: as many values as there are routes, whatever is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

OTHER: Final = "other"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PARAMETER = re.compile(r"\{[^}]*\}")


class RouteLabels:
    """Templates such as `/api/v1/item/{item_id}`, as OpenAPI has them; where several fit, the most literal one."""

    def __init__(self, templates: Iterable[str]) -> None:
        distinct = set(templates)
        self._exact = {one: one for one in distinct if "{" not in one}
        ordered = sorted(distinct - set(self._exact), key=lambda one: (-len(_PARAMETER.sub("", one)), one))
        self._patterns = [(_pattern(one), one) for one in ordered]

    def label(self, path: str) -> str:
        """The template that a path fits, or `other`."""
        found = self._exact.get(path)
        if found is not None:
            return found
        return next((template for pattern, template in self._patterns if pattern.fullmatch(path)), OTHER)


def _pattern(template: str) -> re.Pattern[str]:
    literals = [re.escape(one) for one in _PARAMETER.split(template)]
    return re.compile(".+".join(literals), re.DOTALL)  # an item's id may hold a slash
