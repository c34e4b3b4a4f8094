"""The library: one SQLite file with a full-text index (FTS5, ranked by BM25) over every passage of every sermon."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from pydantic import BaseModel

from .speech import Passage

TABLE = """
    CREATE VIRTUAL TABLE IF NOT EXISTS passages
    USING fts5(text, sermon_id UNINDEXED, title UNINDEXED, start UNINDEXED, tokenize = 'porter')
"""


class Hit(BaseModel):
    """A passage that was looked for, and where to listen to it."""

    sermon_id: str
    title: str
    start: float  # seconds from the beginning of the recording
    text: str


def add(library: Path, sermon_id: str, title: str, passages: list[Passage]) -> None:
    """Put a sermon on the shelf. Adding it again replaces it, so a repeated step leaves no second copy."""
    rows = [(passage.text, sermon_id, title, passage.start) for passage in passages]
    with closing(sqlite3.connect(library)) as database, database:
        database.execute(TABLE)
        database.execute("DELETE FROM passages WHERE sermon_id = ?", (sermon_id,))
        database.executemany("INSERT INTO passages (text, sermon_id, title, start) VALUES (?, ?, ?, ?)", rows)


def search(library: Path, question: str, limit: int = 5) -> list[Hit]:
    """The passages that answer best to any of the words, best first. Word endings do not matter."""
    words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question))
    if not words:
        return []
    with closing(sqlite3.connect(library)) as database:
        database.row_factory = sqlite3.Row
        rows = database.execute("SELECT * FROM passages WHERE passages MATCH ? ORDER BY rank LIMIT ?", (words, limit))
        return [Hit.model_validate(dict(row)) for row in rows]
