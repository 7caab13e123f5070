"""The scale benchmark: its data has the answer that it says, and its report fits what it is given."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.scale.cell import Cell
from benchmarks.scale.planted import BLOCK, Planted
from benchmarks.scale.report import Slope, captured, exponents, summary, write
from benchmarks.scale.runner import Results, run

from deepmemory.errors import InputError


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    file = tmp_path_factory.mktemp("scale") / "scale.jsonl"
    cells = [Cell(1_500, 100, 48, "arrays"), Cell(1_500, 200, 48, "arrays"), Cell(1_500, 100, 48, "store")]
    measured = list(run(cells[:2], Results(file)))
    file.write_text(file.read_text() + '{"cell": {"docum')  # a run that was killed
    measured += run(cells, Results(file))
    assert [line["cell"]["queries"] for line in measured] == [100, 200, 100]
    assert list(run(cells, Results(file))) == []
    return Results(file).lines


def test_a_layer_that_knew_the_planted_map_would_find_what_the_queries_want() -> None:
    planted = Planted(3_000, 64)
    documents = np.concatenate(list(planted.blocks()))
    asked = planted.train(50)

    def at_the_top(queries: np.ndarray) -> float:
        return float(np.mean((queries @ documents.T).argmax(axis=1) == asked.answers))

    assert at_the_top(planted.turned_back(asked.vectors)) > 0.8
    assert at_the_top(asked.vectors) < 0.5
    assert np.allclose(np.linalg.norm(asked.vectors, axis=1), 1, atol=1e-5)


def test_a_document_is_the_same_in_a_larger_corpus_and_queries_are_drawn_anew_for_the_test() -> None:
    small, large = Planted(70, 16), Planted(BLOCK + 30, 16)
    blocks = list(large.blocks())

    assert [len(block) for block in blocks] == [BLOCK, 30]
    assert np.array_equal(next(small.blocks()), blocks[0][:70])
    assert not np.array_equal(large.train(20).answers, large.test(20).answers)
    assert not np.intersect1d(large.train(20).vectors[:, 0], large.test(20).vectors[:, 0]).size


def test_a_store_is_trained_like_the_arrays_that_it_holds(lines: list[dict]) -> None:
    by_arrays, more, by_store = lines

    assert by_store["recall"]["without"] == by_arrays["recall"]["without"]
    assert by_store["settings"] == by_arrays["settings"]
    assert more["recall"]["without"] < more["recall"]["with"] <= more["recall"]["ceiling"] + 0.02
    assert 0 < captured(more) <= 1.1
    assert captured(by_store) is None
    assert by_store["peak_gib"] > 0.05
    assert by_arrays["given_gib"] <= by_arrays["peak_gib"]


def test_a_power_law_is_found_with_its_error() -> None:
    exact = Slope.fitted([(x, 3 * x**1.5) for x in (10.0, 100.0, 1000.0)])
    assert (exact.exponent, exact.error) == (pytest.approx(1.5), pytest.approx(0.0, abs=1e-9))
    rough = Slope.fitted([(1.0, 1.0), (10.0, 20.0), (100.0, 100.0)])
    assert rough.exponent == pytest.approx(1.0)
    assert rough.error == pytest.approx(np.log(2) * np.sqrt(2 / 3) / (np.sqrt(2) * np.log(10)))
    assert Slope.fitted([(1.0, 2.0), (2.0, 4.0)]).error is None
    assert Slope.fitted([(1.0, 2.0), (1.0, 4.0)]) is None


def test_the_report_has_a_row_a_curve_and_a_slope(lines: list[dict], tmp_path: Path) -> None:
    write(lines, tmp_path)

    page = (tmp_path / "scale-figures.md").read_text()
    assert page.count("| arrays | 48 | 1,500 |") == 2
    assert "| queries | 1,500 documents, 48 dimensions, arrays |" in page
    for name in ("time", "memory", "lift"):
        assert (tmp_path / "figures" / f"scale-{name}.svg").read_text().startswith("<svg")
    assert "CPU" in summary(lines[0])
    (slope,) = exponents(lines, "queries", lambda line: line["cell"]["queries"] ** 2).values()
    assert slope.exponent == pytest.approx(2.0)


def test_a_report_that_would_lose_what_another_machine_measured_is_refused(lines: list[dict], tmp_path: Path) -> None:
    write(lines, tmp_path)
    before = (tmp_path / "scale-figures.md").read_text()

    with pytest.raises(InputError, match="has 2 rows whose sizes are not among the 1 measured here"):
        write(lines[:1], tmp_path)
    assert (tmp_path / "scale-figures.md").read_text() == before
    write(lines, tmp_path)
