"""Users' attributes as hashed categories: city, age group, device; whatever the users table has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from asterism.core import records
from asterism.core.hashing import label_code
from asterism.core.ids import IdMap
from asterism.data.repeats import codes_of

ATTRIBUTE_CODES: Final = (1 << 31) - 1
_MOST_DIFFERENT_NUMBERS = 100


@dataclass(frozen=True, slots=True)
class UserAttributes:
    """The attributes of known users."""

    users: IdMap
    codes: NDArray[np.int32]  # (users, A) a code for each name and value together, 0 where there is no value

    @classmethod
    def of(cls, users: pa.Table) -> UserAttributes | None:
        """All categorical columns of a users table; None where it has none."""
        names = categorical_columns(users)
        if not names:
            return None
        columns = [_codes(users[name], name) for name in names]
        return cls(IdMap(users[records.USER_ID].to_pylist()), np.column_stack(columns))

    def rows(self, user_ids: Iterable[str]) -> NDArray[np.int32]:
        """(n, A) codes of the given users, zeros for users that are not known."""
        places = self.users.encode(user_ids)
        return np.where(places[:, None] >= 0, self.codes[places], 0).astype(np.int32)


def categorical_columns(users: pa.Table) -> list[str]:
    """Columns whose values are shared by users: at least two values, and on average two users a value.

    Numbers count only where few differ: a birthday in seconds is no category.
    """
    return [name for name in users.column_names if name != records.USER_ID and _is_categorical(users[name])]


def _is_categorical(column: pa.ChunkedArray) -> bool:
    kind = column.type
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if not (is_number or pa.types.is_string(kind) or pa.types.is_boolean(kind)):
        return False
    different = pc.count_distinct(column).as_py()
    most = (len(column) - column.null_count) // 2
    return bool(2 <= different <= (min(most, _MOST_DIFFERENT_NUMBERS) if is_number else most))


def _codes(column: pa.ChunkedArray, name: str) -> NDArray[np.int32]:
    codes, values = codes_of(column.cast(pa.string()).fill_null(""))
    hashed = [label_code(f"{name}={value}", ATTRIBUTE_CODES) if value else 0 for value in values.to_pylist()]
    return np.array(hashed, dtype=np.int32)[codes]
