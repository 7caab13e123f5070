"""An explanation in words."""

from collections.abc import Iterator

from deepmemory.explanation.model import Cause, ExplainedHit, Explanation

__all__ = ["render"]

_SHOWN = 160


def render(explanation: Explanation, *, whole: bool = False) -> str:
    """The ranking with what changed in it.

    Args:
        explanation: what to tell.
        whole: whether texts are told whole, and not their beginnings.
    """
    return "\n".join(_lines(explanation, whole=whole))


def _lines(explanation: Explanation, *, whole: bool) -> Iterator[str]:
    yield _summary(explanation)
    for hit in explanation.hits:
        yield ""
        yield from _hit(f"{hit.rank:>2}.", _before(hit, explanation), hit, whole=whole)
    if explanation.left:
        yield ""
        yield f"No longer among the first {explanation.k}:"
        for hit in explanation.left:
            moved = f"was {hit.rank_before}, now {_place(hit.rank, explanation)}"
            yield from _hit(" -.", moved, hit, whole=whole)
    if explanation.notes:
        yield ""
        yield from explanation.notes


def _summary(explanation: Explanation) -> str:
    if not explanation.hits:
        return "Nothing was found."
    if explanation.layer is None:
        return f"The first {len(explanation.hits)}, without Deep Memory:"
    new = sum(1 for hit in explanation.hits if hit.rank_before is None or hit.rank_before > explanation.k)
    moved = sum(1 for hit in explanation.hits if hit.rank_before != hit.rank)
    if not moved and not explanation.left:
        return f"Layer {explanation.layer} left the first {len(explanation.hits)} as they were:"
    return (
        f"Layer {explanation.layer} changed the rank of {moved} of the first {len(explanation.hits)}; "
        f"{new} of them would not be among the first {explanation.k} without it:"
    )


def _before(hit: ExplainedHit, explanation: Explanation) -> str:
    if explanation.layer is None:
        return ""
    if hit.rank == hit.rank_before:
        return "as before"
    return f"was {_place(hit.rank_before, explanation)}"


def _place(rank: int | None, explanation: Explanation) -> str:
    return f"beyond {explanation.depth}" if rank is None else str(rank)


def _hit(place: str, moved: str, hit: ExplainedHit, *, whole: bool) -> Iterator[str]:
    source = str(hit.metadata.get("url") or hit.metadata.get("path") or "")
    yield f"{place} {hit.score:.3f}  {source or hit.id}" + (f"  ({moved})" if moved else "")
    if source:
        yield f"    id {hit.id}"
    told = [part for part in hit.parts if abs(part.value) >= 0.0005]
    if len(hit.parts) > 1:
        sums = [f"{told[0].name} {told[0].value:.3f}"] if told else []
        sums += [f"{'-' if part.value < 0 else '+'} {part.name} {abs(part.value):.3f}" for part in told[1:]]
        yield f"    = {' '.join(sums)}"
    for cause in hit.causes:
        yield f"    raised by {_cause(cause)}"
    text = hit.text if whole else _beginning(hit.text)
    yield from (f"    {line}" for line in text.splitlines())


def _cause(cause: Cause) -> str:
    name = f"training query number {cause.number}" if cause.query is None else f'"{_beginning(cause.query)}"'
    return f"{name} (cosine {cause.cosine:.2f}, +{cause.raised:.3f})"


def _beginning(text: str) -> str:
    line = " ".join(text[: 2 * _SHOWN].split())
    return line if len(line) <= _SHOWN and len(text) <= 2 * _SHOWN else f"{line[: _SHOWN - 3].rstrip()}..."
