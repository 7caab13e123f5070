"""A diagnosis in words."""

from collections.abc import Iterator

from deepmemory.diagnosis.model import SEVERITIES, Diagnosis, Example, Finding
from deepmemory.diagnosis.wording import beginning, counted

__all__ = ["render"]

_TITLES = {
    "few_queries": "Number of queries",
    "leaks": "Test queries that train",
    "contradictions": "Contradictions",
    "unfound": "Answers that no search finds",
    "headroom": "Headroom",
    "stale_layer": "A layer that is out of date",
    "copies": "Copies of labelled documents",
    "far_queries": "Queries near to nothing",
    "coverage": "What the labels cover",
    "repeated_queries": "Repeated queries",
}


def render(diagnosis: Diagnosis) -> str:
    """Everything, the gravest first."""
    return "\n".join(_lines(diagnosis))


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    yield (
        f"Diagnosis of {counted(diagnosis.n_queries, 'query', 'queries')} over "
        f"{counted(diagnosis.n_documents, 'document')}: {_tally(diagnosis)}."
    )
    if diagnosis.n_looked_at < diagnosis.n_queries:
        yield (
            f"Searches were tried for {diagnosis.n_looked_at:,} of the queries, drawn at random; shares are of those."
        )
    for finding in diagnosis.findings:
        yield ""
        yield from _finding(finding)


def _tally(diagnosis: Diagnosis) -> str:
    counts = {each: sum(finding.severity == each for finding in diagnosis.findings) for each in SEVERITIES}
    grave = [counted(n, severity) for severity, n in counts.items() if n and severity != "info"]
    return " and ".join(grave) or "nothing that needs doing"


def _finding(finding: Finding) -> Iterator[str]:
    mark = "" if finding.severity == "info" else f"{finding.severity.upper()}  "
    yield f"{mark}{_TITLES.get(finding.kind, finding.kind)}"
    yield f"  {finding.what}"
    yield f"  Why it matters: {finding.why}"
    if finding.advice:
        yield f"  What to do: {finding.advice}"
    for example in finding.examples:
        yield from _example(example)


def _example(example: Example) -> Iterator[str]:
    yield f"  - {example.note}"
    for query in example.queries:
        yield f"      query     {beginning(query)}"
    for id, text in example.documents.items():
        yield f"      document  {beginning(id)}: {beginning(text)}"
