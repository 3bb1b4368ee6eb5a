from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from asterism.core.errors import StorageError
from asterism.stores.sql_database import Database


def test_a_glance_tells_what_a_read_does_and_sees_what_another_wrote(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/catalogue.db"
    one, other = Database(url), Database(url)
    query = "SELECT number FROM catalogue_changes"
    for turn in range(3):
        other.write(lambda connection: connection.execute(text("UPDATE catalogue_changes SET number = number + 1")))
        read = one.read(lambda connection: connection.execute(text(query)).scalar_one())
        assert one.glance(query) == read == turn + 1
    with pytest.raises(StorageError, match="no such table"):
        one.glance("SELECT number FROM nowhere")
    one.close()
    other.close()
