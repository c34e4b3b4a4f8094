"""The price file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files

MILLION = 1_000_000
GB = 1024**3
HOURS = 730.0
"""Of a month."""


@dataclass(frozen=True)
class Prices:
    """List prices of one region, and their date."""

    region: str
    date: date
    _sections: Mapping[str, Mapping[str, float]]

    def of(self, name: str) -> float:
        """A price by its section and name, such as "dynamodb.storage_gb_month"; per million if the name ends so.

        Raises KeyError for a price that is not in the file.
        """
        section, _, key = name.partition(".")
        return float(self._sections[section][key])

    def each(self, name: str) -> float:
        """The price of one of what is priced by the million: `each("sqs.requests")`. Raises KeyError."""
        return self.of(name + "_million") / MILLION


@cache
def load(region: str = "us-east-1") -> Prices:
    """The prices of a region. Raises FileNotFoundError for one that has no file."""
    read = tomllib.loads((files(__package__) / f"{region}.toml").read_text("utf-8"))
    return Prices(read.pop("region"), read.pop("date"), read)
