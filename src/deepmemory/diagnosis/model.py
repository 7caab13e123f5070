"""What a diagnosis found: plain, immutable, and the same through JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from deepmemory.errors import InputError

__all__ = ["KINDS", "SEVERITIES", "Diagnosis", "Example", "Finding", "Severity", "decode_diagnosis"]

Severity: TypeAlias = Literal["problem", "warning", "info"]

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""The gravest first: figures can't be trusted, or nothing learned; less is learned than could be; good to know."""

KINDS = (
    "few_queries",
    "leaks",
    "contradictions",
    "unfound",
    "headroom",
    "stale_layer",
    "copies",
    "far_queries",
    "coverage",
    "repeated_queries",
)
"""What may be found, in the order in which findings of one severity are told."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row that shows a finding.

    Attributes:
        note: what it shows, such as ``"cosine 0.998"``.
        queries: texts of the queries.
        documents: texts of the documents by id, each cut to its beginning.
    """

    note: str
    queries: tuple[str, ...] = ()
    documents: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"note": self.note, "queries": list(self.queries), "documents": dict(self.documents)}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: one of `KINDS`.
        severity: ``"problem"``, ``"warning"`` or ``"info"``.
        n: how many rows show it.
        of: of how many that were looked at.
        what: what was found, a sentence.
        why: why it matters, a sentence.
        advice: what to do, a sentence; empty where there is nothing to be done.
        examples: the worst rows.
    """

    kind: str
    severity: Severity
    n: int
    of: int
    what: str
    why: str
    advice: str = ""
    examples: tuple[Example, ...] = ()

    @property
    def line(self) -> str:
        """The finding in one line, without texts of queries or documents."""
        return f"{self.severity.capitalize()}: {' '.join(part for part in (self.what, self.advice) if part)}"

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "n": self.n,
            "of": self.of,
            "what": self.what,
            "why": self.why,
            "advice": self.advice,
            "examples": [example.as_dict() for example in self.examples],
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found in labelled queries.

    Attributes:
        n_queries: how many queries were given.
        n_documents: how many documents the store has.
        n_looked_at: how many queries were searched for; where there are more, findings about searches and nearness are
            about a sample.
        findings: the gravest first.
    """

    n_queries: int
    n_documents: int
    n_looked_at: int
    findings: tuple[Finding, ...]

    def __getitem__(self, kind: str) -> Finding:
        """The finding of a kind.

        Raises:
            KeyError: nothing of that kind was found.
        """
        for finding in self.findings:
            if finding.kind == kind:
                return finding
        raise KeyError(kind)

    def __contains__(self, kind: str) -> bool:
        return any(finding.kind == kind for finding in self.findings)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that ask for something to be done: warnings and problems, the gravest first."""
        return tuple(finding for finding in self.findings if finding.severity != "info")

    @property
    def severity(self) -> Severity:
        """Of the gravest finding; ``"info"`` where there is none."""
        return min((finding.severity for finding in self.findings), key=SEVERITIES.index, default="info")

    def short(self) -> list[dict[str, Any]]:
        """The warnings as JSON values, one line each and without texts: what a training report keeps."""
        return [
            {"kind": each.kind, "severity": each.severity, "n": each.n, "of": each.of, "line": each.line}
            for each in self.warnings
        ]

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values; `decode_diagnosis` reads them."""
        return {
            "severity": self.severity,
            "n_queries": self.n_queries,
            "n_documents": self.n_documents,
            "n_looked_at": self.n_looked_at,
            "findings": [finding.as_dict() for finding in self.findings],
        }

    def __str__(self) -> str:
        from deepmemory.diagnosis.text import render

        return render(self)


def decode_diagnosis(values: Mapping[str, Any]) -> Diagnosis:
    """Read what `Diagnosis.as_dict` wrote, also through JSON.

    Raises:
        InputError: the values are no diagnosis.
    """
    try:
        return Diagnosis(
            n_queries=int(values["n_queries"]),
            n_documents=int(values["n_documents"]),
            n_looked_at=int(values["n_looked_at"]),
            findings=tuple(map(_finding, values["findings"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"this is no diagnosis: {type(error).__name__}: {error}") from error


def _finding(values: Mapping[str, Any]) -> Finding:
    if values["severity"] not in SEVERITIES:
        raise ValueError(f"a severity is one of {SEVERITIES}, not {values['severity']!r}")
    return Finding(
        kind=str(values["kind"]),
        severity=values["severity"],
        n=int(values["n"]),
        of=int(values["of"]),
        what=str(values["what"]),
        why=str(values["why"]),
        advice=str(values["advice"]),
        examples=tuple(
            Example(str(each["note"]), tuple(map(str, each["queries"])), dict(each["documents"]))
            for each in values["examples"]
        ),
    )
