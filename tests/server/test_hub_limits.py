"""Limits: how much at once, and how often."""

import time

from hub_client import code_of


def add(client, dataset, documents):
    return client.post(f"{dataset}/documents", {"documents": documents, "vectors": [[1.0]] * len(documents)})


def test_bodies_batches_and_k_have_limits(tight_hub, connect):
    client, dataset = connect(tight_hub, tight_hub.token("acme", "admin")), "orgs/acme/datasets/small"
    client.put(dataset, {"embedder": None})
    assert code_of(add(client, dataset, [{"text": "x" * 20_000}])) == (413, "too_large")
    assert code_of(client.http.post(f"{dataset}/documents", content=iter([b"x" * 9_000] * 3))) == (413, "too_large")
    four = add(client, dataset, [{"text": "a"}] * 4)
    assert code_of(four) == (413, "too_large")
    assert add(client, dataset, [{"text": "a"}] * 3).status_code == 200
    assert code_of(client.post(f"{dataset}/documents/get", {"ids": ["a"] * 5})) == (413, "too_large")
    assert code_of(client.post(f"{dataset}/search", {"vectors": [[1.0]] * 3})) == (413, "too_large")
    assert code_of(client.post(f"{dataset}/search", {"vectors": [[1.0]], "k": 51})) == (422, "input")
    assert client.post(f"{dataset}/search", {"vectors": [[1.0]], "k": 50}).status_code == 200
    assert client.post(f"{dataset}/documents/count").json() == {"count": 3}


def test_each_token_has_a_rate_of_its_own(tight_hub, connect):
    first, second = (connect(tight_hub, tight_hub.token("acme", "read")) for _ in range(2))
    replies = [first.get("me") for _ in range(50)]
    limited = next(reply for reply in replies if reply.status_code != 200)
    assert code_of(limited) == (429, "over_limit")
    assert second.get("me").status_code == 200
    time.sleep(int(limited.headers["Retry-After"]))
    assert first.get("me").status_code == 200


def test_queries_are_in_the_log_where_that_is_asked_for(tight_hub, connect, until):
    client, dataset = connect(tight_hub, tight_hub.token("acme", "write")), "orgs/acme/datasets/logged"
    client.put(dataset, {"embedder": None})
    assert client.post(f"{dataset}/search", {"queries": ["what was asked"], "mode": "words"}).status_code == 200
    until(lambda: "what was asked" in tight_hub.log)  # written beside the answer, not before it
