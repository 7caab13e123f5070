"""What was planted in labelled queries is found, and clean ones give no warning."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepmemory import InputError
from deepmemory.backends import Backend, open_backend
from deepmemory.data import Document, LabelledQueries
from deepmemory.diagnosis import KINDS, SEVERITIES, Diagnosis, Finding, HeldOutQueries, decode_diagnosis, diagnose
from deepmemory.transform import Layer, unit_rows

DIM = 32


def unit(random: np.random.Generator, n: int) -> np.ndarray:
    return unit_rows(random.standard_normal((n, DIM)).astype(np.float32))


@dataclass
class World:
    """Documents at random, and queries near to the one that answers each; faults are planted by changing it."""

    n_documents: int = 400
    n_queries: int = 250
    seed: int = 0
    noise: float = 1.3
    documents: np.ndarray = field(init=False)
    vectors: np.ndarray = field(init=False)
    queries: list[str] = field(init=False)
    qrels: list[dict[str, float]] = field(init=False)

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        self.documents = unit(random, self.n_documents)
        rows = random.choice(self.n_documents, self.n_queries, replace=self.n_queries > self.n_documents)
        self.vectors = unit_rows(self.documents[rows] + self.noise * unit(random, self.n_queries))
        self.queries = [f"query number {row}" for row in range(self.n_queries)]
        self.qrels = [{f"d{row}": 1.0} for row in rows.tolist()]

    @property
    def labelled(self) -> LabelledQueries:
        return LabelledQueries(tuple(self.queries), tuple(self.qrels))

    def backend(self, path: object = "memory://") -> Backend:
        backend = open_backend(str(path), create=True)
        documents = [Document(f"d{row}", f"text of document {row}") for row in range(len(self.documents))]
        backend.upsert(documents, self.documents)
        return backend

    def append(self, query: str, vector: np.ndarray, wanted: str) -> None:
        self.queries.append(query)
        self.vectors = np.concatenate([self.vectors, unit_rows(vector[None])])
        self.qrels.append({wanted: 1.0})

    def diagnosis(self, **options: object) -> Diagnosis:
        return diagnose(self.backend(), self.labelled, self.vectors, **options)  # type: ignore[arg-type]


def other_document(world: World, row: int) -> str:
    """A document that does not answer a query, and is none's copy."""
    return next(f"d{number}" for number in range(len(world.documents)) if f"d{number}" not in world.qrels[row])


def queries_of(finding: Finding) -> set[str]:
    return {query for example in finding.examples for query in example.queries}


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=15)
def test_clean_data_gives_no_warning(seed):
    diagnosis = World(seed=seed).diagnosis()
    assert diagnosis.warnings == ()
    assert diagnosis.severity == "info"
    assert {finding.kind for finding in diagnosis.findings} >= {"headroom", "coverage"}
    assert "nothing that needs doing" in str(diagnosis)
    assert diagnosis.short() == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
@settings(deadline=None, max_examples=15)
def test_planted_contradictions_are_counted_and_shown(seed, n_planted):
    world = World(seed=seed)
    for row in range(n_planted):
        world.append(f"{world.queries[row]}!", world.vectors[row], other_document(world, row))
    finding = world.diagnosis()["contradictions"]
    assert (finding.n, finding.of) == (2 * n_planted, 250 + n_planted)
    part = finding.n / finding.of
    assert finding.severity == ("problem" if part >= 0.1 else "warning" if part >= 0.02 else "info")
    planted = {world.queries[row] for row in range(n_planted)} | set(world.queries[250:])
    assert queries_of(finding) <= planted
    assert all(len(example.documents) == 2 for example in finding.examples)
    assert all(text.startswith("text of document") for e in finding.examples for text in e.documents.values())


def test_the_same_text_contradicts_itself_whatever_its_vector():
    world = World()
    random = np.random.default_rng(5)
    for row in range(20):
        world.append(world.queries[row].upper(), unit(random, 1)[0], other_document(world, row))
    assert world.diagnosis()["contradictions"].n == 40


def test_doubles_with_an_answer_in_common_repeat_and_do_not_contradict():
    world = World()
    for row in range(100):
        world.append(f"{world.queries[row]}?", world.vectors[row], next(iter(world.qrels[row])))
        world.qrels[-1]["d1"] = 1.0
    diagnosis = world.diagnosis()
    assert "contradictions" not in diagnosis
    finding = diagnosis["repeated_queries"]
    assert (finding.n, finding.of, finding.severity) == (200, 350, "warning")


def test_doubles_that_want_copies_of_one_document_do_not_contradict():
    world = World()
    wanted = next(iter(world.qrels[0]))
    world.documents = np.concatenate([world.documents, world.documents[[int(wanted[1:])]]])
    world.append("the same once more", world.vectors[0], "d400")
    diagnosis = world.diagnosis()
    assert "contradictions" not in diagnosis
    assert diagnosis["copies"].n == 2


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
@settings(deadline=None, max_examples=15)
def test_copies_of_which_only_one_is_labelled_are_found(seed, n_copies):
    world = World(seed=seed)
    copied = [int(next(iter(qrels))[1:]) for qrels in world.qrels[:n_copies]]
    world.documents = np.concatenate([world.documents, world.documents[copied]])
    diagnosis = world.diagnosis()
    finding = diagnosis["copies"]
    assert (finding.n, finding.of) == (n_copies, 250)
    assert finding.severity == ("warning" if n_copies >= 5 else "info")
    shown = list(finding.examples[0].documents)
    labelled, copy = int(shown[0][1:]), int(shown[1][1:])
    assert (labelled, copy) == (copied[0], 400)
    for row in range(n_copies):
        world.qrels[row][f"d{400 + row}"] = 1.0
    assert "copies" not in world.diagnosis()


@pytest.mark.parametrize(("n", "severity"), [(5, "problem"), (30, "warning"), (120, "info"), (220, None)])
def test_too_few_queries(n, severity):
    diagnosis = World(n_queries=n).diagnosis()
    found = next((finding for finding in diagnosis.findings if finding.kind == "few_queries"), None)
    assert (found and found.severity) == severity
    assert found is None or (found.n, found.of) == (n, n)


def test_queries_that_differ_in_case_alone_are_one():
    world = World(n_queries=1)
    for row in range(12):
        world.append(world.queries[0].upper() + " " * row, world.vectors[0], next(iter(world.qrels[0])))
    assert world.diagnosis()["few_queries"].n == 1


@pytest.mark.parametrize(("n_leaked", "severity"), [(1, "warning"), (10, "problem")])
def test_test_queries_that_train_are_leaks_by_text_and_by_vector(n_leaked, severity):
    world, random = World(), np.random.default_rng(9)
    texts = [f"another question {row}" for row in range(50)]
    vectors = unit(random, 50)
    assert "leaks" not in world.diagnosis(test=HeldOutQueries(texts, vectors))
    by_text = [world.queries[row].upper() for row in range(n_leaked)] + texts[n_leaked:]
    for test in (HeldOutQueries(by_text), HeldOutQueries(by_text, vectors)):
        finding = world.diagnosis(test=test)["leaks"]
        assert (finding.n, finding.of, finding.severity) == (n_leaked, 50, severity)
    vectors[:n_leaked] = world.vectors[:n_leaked]
    finding = world.diagnosis(test=HeldOutQueries(texts, 7 * vectors))["leaks"]
    assert (finding.n, finding.severity) == (n_leaked, severity)
    assert finding.examples[0].queries[0] in texts
    assert finding.examples[0].queries[1] in world.queries
    assert "leaks" not in world.diagnosis(test=HeldOutQueries([], None))


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
@settings(deadline=None, max_examples=10)
def test_answers_that_no_search_finds_are_found_here(seed, n_wrong):
    world = World(seed=seed)
    backend = world.backend()
    furthest = [ranking.ids[-1] for ranking in backend.search(world.vectors[:n_wrong], 400)]
    for row, id in enumerate(furthest):
        world.qrels[row] = {id: 1.0}
    finding = world.diagnosis()["unfound"]
    assert (finding.n, finding.of) == (n_wrong, 250)
    assert finding.severity == ("warning" if n_wrong >= 25 else "info")
    assert queries_of(finding) <= set(world.queries[:n_wrong])
    assert {id for example in finding.examples for id in example.documents} <= set(furthest)


def test_what_is_found_by_words_is_not_hopeless(tmp_path):
    world = World()
    with_words, without = world.backend(tmp_path / "store"), world.backend()
    for row in range(40):
        world.qrels[row] = {without.search(world.vectors[[row]], 400)[0].ids[-1]: 1.0}
    # Each of the first twenty names its document: "document 17" is found by "17".
    for row in range(20):
        world.queries[row] = f"what of {next(iter(world.qrels[row]))[1:]}"
    counts = [diagnose(b, world.labelled, world.vectors)["unfound"].n for b in (without, with_words)]
    with_words.close()
    assert counts == [40, 20]


def test_in_a_store_of_a_hundred_documents_every_answer_is_found():
    assert "unfound" not in World(n_documents=100, n_queries=220).diagnosis()


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
@settings(deadline=None, max_examples=15)
def test_queries_near_to_nothing(seed, n_far):
    world = World(seed=seed, noise=0.3)
    world.documents[:, -1] = 0
    world.vectors[:, -1] = 0
    for row in range(n_far):
        alone = np.zeros(DIM, dtype=np.float32)
        alone[-1] = 1
        alone[row] = 0.2
        world.append(f"noise {row}", alone, "d0")
    finding = world.diagnosis()["far_queries"]
    assert finding.n == n_far
    assert queries_of(finding) <= {f"noise {row}" for row in range(n_far)}
    assert finding.severity == "info"


def test_similarities_below_0_make_nothing_far():
    world = World()
    # By dot product a store may have no document that a query is similar to.
    world.documents[:, 0] = -5 + 0.1 * np.random.default_rng(2).standard_normal(400)
    world.vectors[:, 0] = 1
    diagnosis = world.diagnosis(distance="dot")
    assert "far_queries" not in diagnosis


def test_headroom_says_where_nothing_is_left_to_learn():
    finding = World(noise=0.1).diagnosis()["headroom"]
    assert (finding.severity, finding.n) == ("warning", 0)
    assert "leave the layer off" in finding.why
    assert World().diagnosis()["headroom"].severity == "info"


def test_headroom_doubts_labels_of_another_store():
    world = World(n_documents=2_000)
    world.vectors = unit(np.random.default_rng(3), 250)
    finding = world.diagnosis()["headroom"]
    assert finding.severity == "warning"
    assert "one embedder" in finding.advice


def test_one_document_that_answers_most_is_named():
    world = World()
    for row in range(100):
        world.qrels[row] = {"d7": 1.0}
    finding = world.diagnosis()["coverage"]
    assert (finding.severity, finding.of) == ("warning", 250)
    assert finding.n >= 100
    assert list(finding.examples[0].documents) == ["d7"]


@pytest.mark.parametrize("distance", ["cosine", "dot"])
def test_a_layer_whose_documents_are_gone_or_changed_is_out_of_date(distance):
    world = World()
    ids = tuple(dict.fromkeys(id for qrels in world.qrels for id in qrels))
    trained_on = world.documents[[int(id[1:]) for id in ids]]
    layer = Layer(DIM, document_ids=ids, document_vectors=trained_on, prior=0.1, distance=distance)
    backend = world.backend()
    look = lambda: diagnose(backend, world.labelled, world.vectors, layer=("v3", layer), distance=distance)  # noqa: E731
    assert "stale_layer" not in look()
    backend.delete(ids=ids[:2])
    backend.upsert([Document(ids[2], "rewritten")], -trained_on[[2]])
    finding = look()["stale_layer"]
    assert (finding.n, finding.of, finding.severity) == (3, len(ids), "info")
    assert "v3" in finding.what
    assert list(finding.examples[0].documents) == [ids[2]]
    backend.delete(ids=ids[:30])
    assert look()["stale_layer"].severity == "warning"


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=8)
def test_a_sample_finds_the_same_shares(seed):
    world = World(n_documents=600, n_queries=500, seed=seed)
    for row in range(250):
        world.append(f"{world.queries[row]}!", world.vectors[row], other_document(world, row))
    diagnosis = world.diagnosis(sample=300, seed=1)
    assert (diagnosis.n_queries, diagnosis.n_looked_at) == (750, 300)
    finding = diagnosis["contradictions"]
    assert finding.of == 300
    # Two thirds are in a contradiction; of each that is drawn the double is found, drawn or not.
    assert abs(finding.n / finding.of - 2 / 3) < 0.15
    assert "300 of the queries, drawn at random" in str(diagnosis)
    assert world.diagnosis(sample=300, seed=1) == diagnosis


def test_a_sample_of_labelled_documents_gives_shares_of_those_that_want_them():
    world = World()
    world.documents = np.concatenate([world.documents, world.documents])
    finding = world.diagnosis(sample=100)["copies"]
    assert finding.n == finding.of == 100


@given(st.integers(0, 2**32 - 1), st.permutations(range(40)))
@settings(deadline=None, max_examples=10)
def test_the_order_of_queries_changes_no_count(seed, order):
    world = World(n_queries=38, seed=seed)
    for row in range(2):
        world.append(f"{world.queries[row]}!", world.vectors[row], other_document(world, row))
    before = {(f.kind, f.severity, f.n, f.of) for f in world.diagnosis().findings}
    world.queries = [world.queries[row] for row in order]
    world.qrels = [world.qrels[row] for row in order]
    world.vectors = world.vectors[list(order)]
    assert {(f.kind, f.severity, f.n, f.of) for f in world.diagnosis().findings} == before


def test_nothing_that_is_given_is_changed():
    world = World()
    vectors, labelled = world.vectors.copy(), world.labelled
    vectors.flags.writeable = False
    diagnose(world.backend(), labelled, vectors)
    assert labelled == world.labelled


def faulty() -> Diagnosis:
    world = World(n_queries=30)
    for row in range(10):
        world.append(f"{world.queries[row]}!", world.vectors[row], other_document(world, row))
    return world.diagnosis(test=HeldOutQueries([world.queries[0]]))


def test_the_gravest_come_first_and_each_says_what_why_and_what_to_do():
    diagnosis = faulty()
    order = [(SEVERITIES.index(f.severity), KINDS.index(f.kind)) for f in diagnosis.findings]
    assert order == sorted(order)
    text = str(diagnosis)
    assert text.splitlines()[0] == "Diagnosis of 40 queries over 400 documents: 2 problems and 4 warnings."
    for finding in diagnosis.findings:
        assert finding.what in text
        assert f"Why it matters: {finding.why}" in text
        assert finding.advice in text
        assert finding.n <= finding.of
    assert all(finding.advice for finding in diagnosis.warnings)
    assert {(f.kind, f.severity) for f in diagnosis.warnings} == {
        ("leaks", "problem"),
        ("contradictions", "problem"),
        ("few_queries", "warning"),
        ("unfound", "warning"),
        ("coverage", "warning"),
        ("repeated_queries", "warning"),
    }
    assert diagnosis.severity == "problem"


def test_the_short_form_has_no_texts():
    diagnosis = faulty()
    short = json.dumps(diagnosis.short())
    assert [each["kind"] for each in diagnosis.short()] == [finding.kind for finding in diagnosis.warnings]
    assert "query number" not in short
    assert "text of document" not in short
    assert all(each["line"].startswith(("Problem: ", "Warning: ")) for each in diagnosis.short())


def test_it_comes_back_from_json_as_it_was():
    diagnosis = faulty()
    assert decode_diagnosis(json.loads(json.dumps(diagnosis.as_dict()))) == diagnosis
    assert "contradictions" in diagnosis
    with pytest.raises(KeyError):
        diagnosis["nothing of the kind"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda values: values.pop("findings"),
        lambda values: values.update(findings=[{}]),
        lambda values: values.update(n_queries="many"),
        lambda values: values["findings"][0].update(severity="awful"),
    ],
)
def test_what_is_no_diagnosis_is_refused(spoil):
    values = faulty().as_dict()
    spoil(values)
    with pytest.raises(InputError, match="no diagnosis"):
        decode_diagnosis(values)


def test_progress_is_told():
    seen: list[tuple[int, int]] = []
    World().diagnosis(progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (250, 250)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_the_names_are_those_of_the_room():
    from deepmemory import diagnosis

    assert all(hasattr(diagnosis, name) for name in diagnosis.__all__)
