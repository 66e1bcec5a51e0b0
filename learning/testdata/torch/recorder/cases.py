"""Which families there are and how each is exported."""

from __future__ import annotations

from .catalogue import graphs, images, plain, sequences
from .family import Case, Family

PARTS = (plain, images, sequences, graphs)
FAMILIES: dict[str, Family] = {f.name: f for part in PARTS for f in part.FAMILIES}
CASES: list[Case] = [case for part in PARTS for case in part.CASES]
