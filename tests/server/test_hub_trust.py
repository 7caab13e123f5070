"""Diagnosis and explanation over plain HTTP."""

import pytest
from hub_client import code_of, fill, packed, training, world

UNKNOWN = "orgs/acme/datasets/nothing-here"


@pytest.fixture(scope="module")
def small() -> dict:
    return world(150, 60)


def asked(made, **more) -> dict:
    return {
        "queries": made["queries"],
        "relevance": made["relevance"],
        "vectors": packed(made["query_vectors"]),
        **more,
    }


def test_queries_are_diagnosed(client, reader, dataset, small):
    fill(client, dataset, small)
    reply = reader.post(f"{dataset}/diagnosis", asked(small, test_queries=["QUERY 3", "another"]))
    assert reply.status_code == 200
    diagnosis = reply.json()
    assert (diagnosis["n_queries"], diagnosis["n_documents"], diagnosis["n_looked_at"]) == (60, 150, 60)
    found = {finding["kind"]: finding for finding in diagnosis["findings"]}
    assert set(found) >= {"headroom", "coverage", "few_queries", "leaks"}
    assert (found["leaks"]["n"], found["leaks"]["severity"]) == (1, "problem")
    assert set(found["leaks"]) == {"kind", "severity", "n", "of", "what", "why", "advice", "examples"}
    vectors = packed(small["query_vectors"][:2])
    by_vector = client.post(f"{dataset}/diagnosis", asked(small, test_queries=["a", "b"], test_vectors=vectors)).json()
    assert next(finding["n"] for finding in by_vector["findings"] if finding["kind"] == "leaks") == 2
    assert client.get(f"{dataset}/history").json() == {"entries": []}


def test_a_diagnosis_that_can_not_be_is_refused_with_a_reason(client, dataset, small):
    fill(client, dataset, small)
    place = f"{dataset}/diagnosis"
    assert code_of(client.post(place, {"queries": ["a"]})) == (422, "input")
    assert code_of(client.post(place, asked(small, other=1))) == (422, "input")
    assert code_of(client.post(place, {**asked(small), "relevance": [[["none", 1.0]]] * 60})) == (422, "input")
    assert code_of(client.post(place, {**asked(small), "vectors": None})) == (422, "input")
    assert code_of(client.post(place, asked(small, test_queries=[" "]))) == (422, "input")
    one = packed(small["query_vectors"][:1])
    assert code_of(client.post(place, asked(small, test_queries=["a", "b"], test_vectors=one))) == (422, "input")
    assert code_of(client.post(place, asked(small, test_vectors=one))) == (422, "input")
    assert code_of(client.post(f"{UNKNOWN}/diagnosis", asked(small))) == (404, "not_found")


def test_a_ranking_is_explained(client, reader, dataset, small, until):
    fill(client, dataset, small)
    vector = packed(small["query_vectors"][:1])
    before = reader.post(f"{dataset}/explain", {"vectors": vector, "k": 4}).json()
    assert before["layer"] is None
    assert "No layer is active" in before["notes"][0]
    job = client.post(f"{dataset}/jobs", training(small)).json()["id"]
    until(lambda: client.get(f"{dataset}/jobs/{job}").json()["finished"])
    reply = reader.post(f"{dataset}/explain", {"query": "query 0", "vectors": vector, "k": 4})
    assert reply.status_code == 200
    explanation = reply.json()
    assert (explanation["query"], explanation["layer"], explanation["k"]) == ("query 0", "v1", 4)
    hits = client.post(f"{dataset}/search", {"vectors": vector, "k": 4}).json()["results"][0]["hits"]
    assert [hit["id"] for hit in explanation["hits"]] == [hit["id"] for hit in hits]
    for hit, found in zip(explanation["hits"], hits, strict=True):
        assert sum(part["value"] for part in hit["parts"]) == pytest.approx(found["score"], abs=1e-5)
    plain = client.post(f"{dataset}/search", {"vectors": vector, "k": 4, "deep_memory": False}).json()
    first = {hit["id"] for hit in plain["results"][0]["hits"]}
    assert {hit["id"] for hit in explanation["left"]} == first - {hit["id"] for hit in hits}


def test_an_explanation_that_can_not_be_is_refused_with_a_reason(client, dataset, small):
    fill(client, dataset, small)
    place, vector = f"{dataset}/explain", packed(small["query_vectors"][:1])
    assert code_of(client.post(place, {})) == (422, "input")
    assert code_of(client.post(place, {"query": "a question"})) == (422, "input")
    assert code_of(client.post(place, {"query": " ", "vectors": vector})) == (422, "input")
    assert code_of(client.post(place, {"vectors": vector, "k": 0})) == (422, "input")
    assert code_of(client.post(place, {"vectors": vector, "k": 10_001})) == (422, "input")
    assert code_of(client.post(place, {"vectors": [[1.0, 2.0]]})) == (422, "input")
    assert code_of(client.post(place, {"vectors": packed(small["query_vectors"][:2])})) == (413, "too_large")
    assert code_of(client.post(place, {"vectors": vector, "filter": {"a": {"b": object.__name__}}, "x": 1})) == (
        422,
        "input",
    )
    assert code_of(client.post(f"{UNKNOWN}/explain", {"vectors": vector})) == (404, "not_found")


def test_an_empty_dataset_explains_nothing(client, dataset):
    reply = client.post(f"{dataset}/explain", {"vectors": [[1.0, 0.0]]})
    assert (reply.status_code, reply.json()["hits"]) == (200, [])
