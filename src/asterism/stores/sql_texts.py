"""Full text over items: FTS5 in SQLite, a GIN index over `tsvector` in PostgreSQL, and the same words in both.

Words are cut and folded here, so that both databases find the same items: runs of letters and digits, whatever the
script, without regard to case or to how a character is composed. The order is each database's own: `bm25` there,
`ts_rank` here, both with a title before a brand before categories.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, TextClause, text

#: So much of a field is looked through; a whole novel as a title would be no title.
_CHARACTERS: Final = 2_000
_WORD: Final = re.compile(r"[^\W_]+")
_LETTERS: Final = 100  # of a word
_WORDS: Final = 16  # of a question
_RANKS: Final = ("A", "B", "C")  # of title, brand, categories

_PUT: Final = {
    "sqlite": (
        "INSERT OR REPLACE INTO items_text (rowid, item_id, title, brand, categories) "
        "VALUES (:number, :item_id, :title, :brand, :categories)"
    ),
    "postgresql": (
        "INSERT INTO items_text (item_id, words) VALUES (:item_id, CAST(:words AS tsvector)) "
        "ON CONFLICT (item_id) DO UPDATE SET words = excluded.words"
    ),
}
_DELETE: Final = {
    "sqlite": "DELETE FROM items_text WHERE rowid = :number",
    "postgresql": "DELETE FROM items_text WHERE item_id = :item_id",
}
_MATCHES: Final = {
    "sqlite": "items_text MATCH :asked",
    "postgresql": "items_text.words @@ CAST(:asked AS tsquery)",
}
_ORDER: Final = {
    "sqlite": "bm25(items_text, 0, 10, 5, 3)",
    "postgresql": "-ts_rank(ARRAY[0, 0.3, 0.5, 1], items_text.words, CAST(:asked AS tsquery))",
}


def words_of(some: str) -> list[str]:
    """The words of a text, folded; an accent may be a character of its own, as macOS writes it."""
    return _words(unicodedata.normalize("NFKC", some[:_CHARACTERS]))


def _words(some: str) -> list[str]:
    return [word.casefold()[:_LETTERS] for word in _WORD.findall(some[:_CHARACTERS])]


def put_texts(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Make rows of `items` be found, in place of what was known of them."""
    if rows:
        dialect = connection.dialect.name
        connection.execute(text(_PUT[dialect]), [_row(dialect, row) for row in rows])


def delete_texts(connection: Connection, item_ids: Iterable[str]) -> None:
    """Let items be found no more."""
    rows = [{"item_id": one, "number": _number(one)} for one in item_ids]
    if rows:
        connection.execute(text(_DELETE[connection.dialect.name]), rows)


def matching(dialect: str, question: str) -> tuple[TextClause, TextClause] | None:
    """The condition on `items_text` and its order, best first; None where the question holds no word.

    One word is enough, and the last one may be the beginning of a word.
    """
    # As it stands too: items that were last written by a version that composed nothing are indexed so.
    forms = [list(dict.fromkeys(words[-_WORDS:])) for words in (_words(question), words_of(question)) if words]
    if not forms:
        return None
    forms = forms[-1:] if forms[0] == forms[-1] else forms
    if dialect == "sqlite":
        asked = " OR ".join(" OR ".join(f'"{word}"' for word in words) + " *" for words in forms)
    else:
        asked = " | ".join(" | ".join(f"'{word}'" for word in words) + ":*" for words in forms)
    return (
        text(_MATCHES[dialect]).bindparams(asked=asked),
        text(_ORDER[dialect]) if dialect == "sqlite" else text(_ORDER[dialect]).bindparams(asked=asked),
    )


def make_table(connection: Connection) -> None:
    """Make `items_text`."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            text('CREATE TABLE items_text (item_id text COLLATE "C" PRIMARY KEY NOT NULL, words tsvector NOT NULL)')
        )
        connection.execute(text("CREATE INDEX items_text_words ON items_text USING gin (words)"))
        return
    connection.execute(
        text(
            "CREATE VIRTUAL TABLE items_text USING fts5("
            "item_id UNINDEXED, title, brand, categories, tokenize = 'unicode61 remove_diacritics 0', prefix = '2 3')"
        )
    )


def _row(dialect: str, row: Mapping[str, Any]) -> dict[str, Any]:
    fields = (row["title"], row["brand"] or "", " ".join(row["categories"]))
    if dialect == "sqlite":
        title, brand, categories = (" ".join(words_of(one)) for one in fields)
        return {
            "number": _number(row["item_id"]),
            "item_id": row["item_id"],
            "title": title,
            "brand": brand,
            "categories": categories,
        }
    places = ((word, rank) for one, rank in zip(fields, _RANKS, strict=True) for word in words_of(one))
    words = " ".join(f"'{word}':{place}{rank}" for place, (word, rank) in enumerate(places, start=1))
    return {"item_id": row["item_id"], "words": words}


def _number(item_id: str) -> int:
    """A row of FTS5 is found by its number alone; of a million ids, two share one with a chance of 5e-8."""
    digest = hashlib.blake2b(item_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
