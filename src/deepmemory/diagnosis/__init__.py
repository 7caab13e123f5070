"""What labelled queries are worth to a training, in plain words: before it, after it, and what to do about it.

`diagnose` looks at queries and their right answers through the store's own search and names what it finds: what was
found, why that matters, what to do, and the worst rows with their texts.
"""

from deepmemory.diagnosis.diagnose import SAMPLE, HeldOutQueries, diagnose
from deepmemory.diagnosis.model import KINDS, SEVERITIES, Diagnosis, Example, Finding, Severity, decode_diagnosis

__all__ = [
    "KINDS",
    "SAMPLE",
    "SEVERITIES",
    "Diagnosis",
    "Example",
    "Finding",
    "HeldOutQueries",
    "Severity",
    "decode_diagnosis",
    "diagnose",
]
