"""The OpenAPI document is true: whatever is sent, the hub answers as it says, and never with a 500."""

import contextlib

import httpx
import pytest
import requests
import schemathesis
from hub_client import code_of
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

EXAMPLES = 6
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
DATASET = {"org": "acme", "name": "fuzzed"}


@pytest.fixture(scope="module")
def document(hub) -> dict:
    return httpx.get(f"{hub.url}/openapi.json").json()


def operations(document: dict) -> list:
    return [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("somewhere", [True, False], ids=["in a dataset", "anywhere"])
def test_whatever_is_sent_the_answer_is_as_the_document_says(hub, secrets, client, document, mode, somewhere):
    session = requests.Session()
    headers = {"Authorization": f"Bearer {secrets['admin']}"}
    tried = 0
    for operation in operations(document):
        known = {name: value for name, value in DATASET.items() if somewhere and f"{{{name}}}" in operation.path}
        if somewhere and not known:
            continue
        strategy = operation.as_strategy(generation_mode=mode, path_parameters=known or None)

        @seed(0)
        @settings(
            max_examples=EXAMPLES if somewhere else EXAMPLES // 2,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def answered(case):
            if somewhere:
                client.put("orgs/acme/datasets/fuzzed", {"embedder": None})
            case.call_and_validate(base_url=hub.url, session=session, headers=headers, checks=CHECKS, timeout=60)

        with contextlib.suppress(Unsatisfiable):  # where nothing can be sent, nothing wrong can
            answered()
            tried += 1
    session.close()
    assert tried > 25


def test_the_document_is_complete(document):
    for path, described in document["paths"].items():
        for method, operation in described.items():
            where = f"{method} {path}"
            assert operation["summary"], where
            assert operation["description"].strip(), where
            if path.startswith("/v1"):
                assert operation["security"] == [{"token": []}], where
                assert operation["x-scope"] in {"read", "write", "admin"}, where
                assert {"401", "403", "404", "413", "422", "429", "500", "503"} <= set(operation["responses"]), where
    bodies = {name: schema for name, schema in document["components"]["schemas"].items() if name.endswith("Request")}
    assert len(bodies) >= 10
    assert all(schema["examples"] for schema in bodies.values())


def test_every_example_of_the_document_is_a_request_that_is_understood(client, document, dataset):
    body = {"documents": [{"id": "ice", "text": "Ice is frozen water."}], "vectors": [[1.0, 0.0]]}
    assert client.post(f"{dataset}/documents", body).status_code == 200
    tried = 0
    for path, described in document["paths"].items():
        for method, operation in described.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content is None:
                continue
            name = content["schema"]["$ref"].rpartition("/")[2]
            for example in document["components"]["schemas"][name]["examples"]:
                place = (
                    path.removeprefix("/v1/").replace("orgs/{org}/datasets/{name}", dataset).replace("{org}", "acme")
                )
                reply = client.http.request(method, place, json=example)
                assert reply.status_code not in {400, 415, 500}, (path, example, reply.text)
                if reply.status_code == 422:
                    # Understood, and refused for what the dataset is: it has two dimensions and no embedder.
                    assert code_of(reply)[1] in {"input", "embedder_mismatch"}
                    assert "Extra inputs" not in reply.text
                    assert "valid" not in reply.text
                tried += 1
    assert tried >= 10
