"""`fit_map()`: pairs of vectors in, a map from a new embedding model into the space of an old one out.

Documents keep the vectors that the old model made; queries are embedded by the new one and mapped. `docs/migrate.md`
has the method; `deepmemory.migrate` does it for a store.
"""

from deepmemory.migration.candidates import Candidate
from deepmemory.migration.fit import MIN_PAIRS, MapResult, fit_map
from deepmemory.migration.model import MigrationMap
from deepmemory.migration.report import Compared, MapReport
from deepmemory.migration.saved import decode_map, encode_map

__all__ = [
    "MIN_PAIRS",
    "Candidate",
    "Compared",
    "MapReport",
    "MapResult",
    "MigrationMap",
    "decode_map",
    "encode_map",
    "fit_map",
]
