"""Finding what there is: runs, by what is asked for, and events.

filters    what a caller may ask for, checked
runs       the runs that are meant, from an event, a tag or the index
content    a condition over the events themselves
events     accepted events, newest first
"""

from __future__ import annotations

from stepwell.finding.filters import Filters, named
from stepwell.finding.runs import Finder

__all__ = ["Filters", "Finder", "named"]
