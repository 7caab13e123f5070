"""LangChain's protocol and functions behind our contract: shapes, norms, progress, and what is refused."""

import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepmemory.embedders import CallableEmbedder, LangChainEmbedder
from deepmemory.errors import Cancelled, EmbedderError, InputError, MissingExtraError


class Asymmetric:
    """Documents and queries are embedded differently, as with E5 or Cohere's models."""

    model = "asymmetric-1"

    def __init__(self):
        self.calls = []

    def embed_documents(self, texts):
        self.calls.append(list(texts))
        return [[3.0, 4.0] for _ in texts]

    def embed_query(self, text):
        self.calls.append(text)
        return [0.0, 2.0]


def test_queries_and_documents_take_their_own_way():
    model = Asymmetric()
    embedder = LangChainEmbedder(model)
    np.testing.assert_allclose(embedder.embed_documents(["a", "b"]), [[0.6, 0.8], [0.6, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(embedder.embed_queries(["c", "d"]), [[0, 1], [0, 1]])
    assert model.calls == [["a", "b"], "c", "d"]


def test_names_say_class_and_model():
    assert LangChainEmbedder(Asymmetric()).name == "Asymmetric(asymmetric-1)"
    assert LangChainEmbedder(Asymmetric(), name="mine").name == "mine"
    assert CallableEmbedder(np.atleast_2d).name == "atleast_2d"
    assert CallableEmbedder(Asymmetric().embed_documents).name == "Asymmetric.embed_documents"


def test_no_texts_give_no_vectors_of_the_right_length():
    embedder = CallableEmbedder(lambda texts: np.ones((len(texts), 5)))
    assert embedder.dimensions is None
    assert embedder.embed_documents([]).shape == (0, 0)
    embedder.embed_documents(["a"])
    assert embedder.dimensions == 5
    assert embedder.embed_queries([]).shape == (0, 5)
    assert embedder.embed_queries([]).dtype == np.float32


@pytest.mark.parametrize(
    "convert",
    [
        lambda rows: rows,
        lambda rows: [array.array("f", row) for row in rows],
        lambda rows: np.array(rows, dtype=np.float16),
        lambda rows: tuple(np.array(row, dtype=np.int64) for row in rows),
    ],
)
def test_vectors_may_come_in_many_forms(convert):
    embedder = CallableEmbedder(lambda texts: convert([[3, 4], [0, -5]]))
    vectors = embedder.embed_documents(["a", "b"])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, -1]], rtol=1e-3)


def test_a_torch_tensor_is_an_array():
    torch = pytest.importorskip("torch")
    embedder = CallableEmbedder(lambda texts: torch.ones(len(texts), 4))
    np.testing.assert_allclose(embedder.embed_documents(["a"]), [[0.5] * 4])


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (None, r"shape \(\)"),
        ("nonsense", "no array of numbers"),
        ([[1.0, 2.0], [1.0]], "no array of numbers"),
        ([[1.0, 2.0]], r"shape \(1, 2\); expected \(2, dimensions\)"),
        ([1.0, 2.0], r"shape \(2,\); expected \(2, dimensions\)"),
        ([[], []], r"shape \(2, 0\)"),
        ([[[1.0]], [[2.0]]], r"shape \(2, 1, 1\)"),
        ([[1.0, np.nan], [1.0, 2.0]], r"NaN or infinite numbers .* 1 of 2 texts \(positions 0\)"),
        ([[1.0, 2.0], [np.inf, 2.0]], r"NaN or infinite numbers .* \(positions 1\)"),
        ([[0.0, 0.0], [1.0, 2.0]], r"a vector of zeros.* 1 of 2 texts \(positions 0\)"),
    ],
)
def test_what_is_no_set_of_vectors_is_named(answer, found):
    with pytest.raises(EmbedderError, match=found) as caught:
        CallableEmbedder(lambda texts: answer, name="my model").embed_documents(["a", "b"])
    assert "the embedder my model" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dimensions_may_not_change_between_calls():
    widths = iter([3, 4])
    embedder = CallableEmbedder(lambda texts: np.ones((len(texts), next(widths))))
    embedder.embed_documents(["a"])
    with pytest.raises(EmbedderError, match=r"shape \(1, 4\); expected \(1, 3\)"):
        embedder.embed_documents(["b"])


def test_a_failing_model_is_one_sentence_with_its_cause():
    def broken(texts):
        raise ConnectionResetError("peer went away")

    with pytest.raises(EmbedderError, match="my model failed: ConnectionResetError: peer went away") as caught:
        CallableEmbedder(broken, name="my model").embed_documents(["a"])
    assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_our_own_errors_pass_as_they_are():
    def broken(texts):
        raise MissingExtraError("this", "local")

    with pytest.raises(MissingExtraError):
        CallableEmbedder(broken).embed_documents(["a"])


@pytest.mark.parametrize("texts", ["one text", b"bytes", 7, None, {"a": 1}])
def test_texts_must_be_a_list(texts):
    with pytest.raises(InputError, match="texts must be a list of strings, found"):
        CallableEmbedder(lambda t: np.ones((len(t), 2))).embed_documents(texts)


def test_every_bad_text_is_named():
    embedder = CallableEmbedder(lambda t: np.ones((len(t), 2)))
    with pytest.raises(InputError) as caught:
        embedder.embed_queries(["fine", None, 3, "half \ud800"])
    assert [problem.split(" must")[0].split(" holds")[0] for problem in caught.value.problems] == [
        "text 1",
        "text 2",
        "text 3",
    ]


def test_long_work_goes_in_batches_and_reports():
    sizes, reports = [], []

    def embed(texts):
        sizes.append(len(texts))
        return np.ones((len(texts), 2))

    embedder = CallableEmbedder(embed)
    embedder.embed_documents(["x"] * 600, progress=lambda done, total: reports.append((done, total)))
    assert sizes == [256, 256, 88]
    assert reports == [(256, 600), (512, 600), (600, 600)]


def test_progress_can_stop_the_work():
    calls = []

    def embed(texts):
        calls.append(len(texts))
        return np.ones((len(texts), 2))

    def cancel(done, total):
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        CallableEmbedder(embed).embed_documents(["x"] * 600, progress=cancel)
    assert calls == [256]


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 5), st.integers(1, 8)),
        elements=st.floats(-1e300, 1e300, allow_subnormal=True),
    )
)
def test_any_finite_direction_becomes_a_unit_vector(raw):
    raw[:, 0] += (raw == 0).all(axis=1)
    before = raw.copy()
    vectors = CallableEmbedder(lambda texts: raw).embed_documents(["x"] * len(raw))
    np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, rtol=1e-5)
    largest = np.abs(raw).argmax(axis=1)
    rows = np.arange(len(raw))
    assert (np.sign(vectors[rows, largest]) == np.sign(raw[rows, largest])).all()
    np.testing.assert_array_equal(raw, before)
