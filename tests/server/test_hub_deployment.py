"""What is in `deploy/`: every manifest is what its kind takes, the parts fit together, and options are real ones."""

import copy
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from kubernetes import client as kinds
from pydantic import ValidationError

from deepmemory.cli.app import app
from deepmemory.server import HubSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
MANIFESTS = {
    f"{path.stem}/{document['kind']}": document
    for path in sorted((DEPLOY / "k8s").glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
}
KUSTOMIZATION = yaml.safe_load((DEPLOY / "k8s" / "kustomization.yaml").read_text(encoding="utf-8"))
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def parsed(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest as Kubernetes' own client reads it, which refuses keys and types that its kind doesn't have."""
    version = manifest["apiVersion"].rpartition("/")[2].capitalize()
    read = getattr(kinds, f"{version}{manifest['kind']}").model_validate(manifest)
    kept: dict[str, Any] = read.model_dump(mode="json", by_alias=True, exclude_none=True)
    return kept


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_are_what_their_kinds_take(name):
    assert parsed(MANIFESTS[name]) == MANIFESTS[name]


def test_mistakes_in_manifests_are_found():
    wrong = copy.deepcopy(MANIFESTS["worker/Deployment"])
    spec = wrong["spec"]["template"]["spec"]
    spec["containers"][0]["imagePullPolcy"] = "Always"
    spec["terminationGracePeriodSeconds"] = "45"
    del spec["containers"][0]["name"]
    with pytest.raises(ValidationError) as caught:
        parsed(wrong)
    assert {error["loc"][-1] for error in caught.value.errors()} == {
        "imagePullPolcy",
        "terminationGracePeriodSeconds",
        "name",
    }


def pods() -> dict[str, dict[str, Any]]:
    return {
        name: manifest["spec"]["template"]
        for name, manifest in MANIFESTS.items()
        if manifest["kind"] in {"Deployment", "StatefulSet"}
    }


@pytest.mark.parametrize("name", pods())
def test_pods_are_not_root_are_probed_and_have_what_they_name(name):
    template, manifest = pods()[name], MANIFESTS[name]
    labels, spec = template["metadata"]["labels"], template["spec"]
    assert manifest["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    claims = {claim["metadata"]["name"] for claim in manifest["spec"].get("volumeClaimTemplates", ())}
    volumes = claims | {volume["name"] for volume in spec["volumes"]}
    ours = {m["metadata"]["name"] for m in MANIFESTS.values() if m["kind"] == "PersistentVolumeClaim"}
    named = {v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v}
    assert named <= ours
    [container] = spec["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    ports = {port["name"] for port in container["ports"]}
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe].get("httpGet", {"port": next(iter(ports))})["port"] in ports
    secrets = {generated["name"]: generated["files"] for generated in KUSTOMIZATION["secretGenerator"]}
    for variable in container["env"]:
        if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
            assert any(file.startswith(f"{reference['key']}=") for file in secrets[reference["name"]])


def test_services_and_policies_select_pods_that_there_are():
    labels = [pod["metadata"]["labels"].items() for pod in pods().values()]
    ports = {port["name"] for pod in pods().values() for port in pod["spec"]["containers"][0]["ports"]}
    for manifest in MANIFESTS.values():
        if manifest["kind"] == "Service":
            selector = manifest["spec"]["selector"]
            assert any(selector.items() <= found for found in labels)
            assert {port["targetPort"] for port in manifest["spec"]["ports"]} <= ports
        if manifest["kind"] in {"PodDisruptionBudget", "NetworkPolicy"}:
            selector = manifest["spec"].get("selector") or manifest["spec"]["podSelector"]
            assert any(selector["matchLabels"].items() <= found for found in labels)


def test_everything_is_in_the_kustomization():
    files = {path.name for path in (DEPLOY / "k8s").glob("*.yaml")} - {"kustomization.yaml"}
    assert set(KUSTOMIZATION["resources"]) == files
    assert KUSTOMIZATION["namespace"] == MANIFESTS["namespace/Namespace"]["metadata"]["name"]
    images = {pod["spec"]["containers"][0]["image"] for pod in pods().values()}
    assert {image["name"] for image in KUSTOMIZATION["images"]} <= images


def commands() -> list[tuple[str, list[str], dict[str, str]]]:
    """Each way in which the image is run: where, with which arguments and variables."""
    found = []
    for name, pod in pods().items():
        [container] = pod["spec"]["containers"]
        if "args" in container:
            variables = {variable["name"]: variable.get("value", "secret") for variable in container["env"]}
            found.append((name, container["args"], variables))
    for name, service in COMPOSE["services"].items():
        if "command" in service:
            found.append((f"compose/{name}", service["command"], service["environment"]))
    return found


@pytest.mark.parametrize(("where", "words", "variables"), commands(), ids=[where for where, _, _ in commands()])
def test_commands_and_variables_are_ones_that_there_are(where, words, variables):
    command = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
    given = command.make_context(words[0], list(words[1:])).params
    assert given["host"] == "0.0.0.0"
    ours = {name: value for name, value in variables.items() if name.startswith("DEEPMEMORY_HUB_")}
    settings = HubSettings.from_environment(ours)
    known = {f"DEEPMEMORY_HUB_{field.upper()}" for field in HubSettings.__dataclass_fields__}
    assert set(ours) <= known | {"DEEPMEMORY_HUB_DATA", "DEEPMEMORY_HUB_DATABASE"}
    assert ours["DEEPMEMORY_HUB_DATABASE"].startswith("postgresql://")
    assert "PGPASSWORD" in variables
    if where in pods():
        spec = pods()[where]["spec"]
        assert spec["terminationGracePeriodSeconds"] > settings.drain_seconds + settings.grace_seconds
        assert {port["containerPort"] for port in spec["containers"][0]["ports"]} == {given["port"]}
    else:
        seconds = int(COMPOSE["services"][where.partition("/")[2]]["stop_grace_period"].removesuffix("s"))
        assert seconds > settings.drain_seconds + settings.grace_seconds


def test_compose_has_what_its_services_name():
    assert set(COMPOSE) <= {"name", "services", "volumes", "x-deepmemory"}
    assert set(COMPOSE["services"]) == {"postgres", "hub", "worker"}
    for service in COMPOSE["services"].values():
        assert {mount.partition(":")[0] for mount in service["volumes"]} <= set(COMPOSE["volumes"])
        assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])
        assert service["healthcheck"]["test"][0] == "CMD"
    for name in ("hub", "worker"):
        assert COMPOSE["services"][name]["read_only"] is True
        assert COMPOSE["services"][name]["environment"]["PGPASSWORD"].startswith("${POSTGRES_PASSWORD:?")
        build = COMPOSE["services"][name]["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == (DEPLOY / "Dockerfile").resolve()
    # Plain HTTP is for this machine alone.
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["services"]["hub"]["ports"])


def test_the_image_is_made_of_files_that_are_sent_to_its_build_and_is_not_root():
    root = DEPLOY.parent
    sent = {line[1:] for line in (root / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    stages = re.split(r"^FROM .*$", DOCKERFILE, flags=re.MULTILINE)
    assert len(stages) == 3
    for line in re.findall(r"^COPY (?!--from)(.+)$", stages[1], flags=re.MULTILINE):
        for name in shlex.split(line)[:-1]:
            assert (root / name).exists()
            assert name in sent
    extras = re.search(r"'\.\[(.+)\]'", DOCKERFILE)
    assert extras is not None
    declared = re.findall(r"^(\w+) = \[", (root / "pyproject.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(extras[1].split(",")) <= set(declared)
    user = re.search(r"^USER (\d+):(\d+)$", stages[2], flags=re.MULTILINE)
    assert user is not None
    ours = {pods()[name]["spec"]["securityContext"]["runAsUser"] for name in pods() if "postgres" not in name}
    assert ours == {int(user[1])}
