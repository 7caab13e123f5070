"""The commands of a hub's machine, and what docs/hub.md says about it."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import httpx
import pytest

from deepmemory.cli.ending import run
from deepmemory.errors import InputError
from deepmemory.server import HubSettings

GUIDE = (Path(__file__).parents[2] / "docs" / "hub.md").read_text(encoding="utf-8")


@pytest.fixture
def deepmemory(capsys, tmp_path, monkeypatch):
    """Runs a command in this process; gives its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> tuple[int, str, str]:
        code = run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def test_tokens_are_made_listed_and_revoked(deepmemory, tmp_path):
    code, secret, said = deepmemory("token", "create", "--org", "Acme", "--scope", "admin", "--name", "first")
    assert code == 0
    assert re.fullmatch(r"dm_[A-Za-z0-9_-]{43}\n", secret)
    assert "may admin in acme" in said
    assert (tmp_path / "deepmemory-hub" / "hub.sqlite").exists()
    made = json.loads(deepmemory("token", "create", "--org", "b", "--expires-in-days", 1, "--json")[1])
    assert (made["org"], made["scope"]) == ("b", "write")
    listed = deepmemory("token", "list")[1]
    assert "acme" in listed
    assert "first" in listed
    assert secret.strip() not in listed
    assert [row["org"] for row in json.loads(deepmemory("token", "list", "--org", "b", "--json")[1])] == ["b"]
    assert deepmemory("token", "revoke", made["id"])[:2] == (0, f"Token {made['id']} is revoked.\n")
    assert "revoked 20" in deepmemory("token", "list")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create"], "say for which organisation"),
        (["create", "--org", "a/b"], "the name of an organisation is"),
        (["create", "--org", "a", "--scope", "all"], "the scope is read, write or admin"),
        (["create", "--org", "a", "--expires-in-days", "-1"], "expires in more than 0"),
        (["revoke"], "say which token"),
        (["forge", "--org", "a"], "create, list or revoke"),
        (["list"], "there is no hub's data in"),
    ],
)
def test_mistakes_with_tokens_get_one_sentence(deepmemory, arguments, said):
    code, out, err = deepmemory("token", *arguments)
    assert (code, out) == (1, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_token_that_is_not_there_can_not_be_revoked(deepmemory):
    deepmemory("token", "create", "--org", "a")
    assert "there is no token 'abc'" in deepmemory("token", "revoke", "abc")[2]


def test_settings_come_from_the_environment_and_wrong_ones_are_all_named():
    read = HubSettings.from_environment({"DEEPMEMORY_HUB_RATE": "2.5", "DEEPMEMORY_HUB_LOG_QUERIES": "1", "OTHER": "x"})
    assert (read.rate, read.log_queries, read.max_k) == (2.5, True, 10_000)
    wrong = {"DEEPMEMORY_HUB_RATE": "fast", "DEEPMEMORY_HUB_THREADS": "many", "DEEPMEMORY_HUB_LOG_QUERIES": "perhaps"}
    with pytest.raises(InputError) as caught:
        HubSettings.from_environment(wrong)
    assert len(caught.value.problems) == 3
    for name, value in (("max_k", "0"), ("max_body_mb", "-1"), ("threads", "nan"), ("embedders", "cohere")):
        with pytest.raises(InputError, match=f"(?i){name}"):
            HubSettings.from_environment({f"DEEPMEMORY_HUB_{name.upper()}": value})


def test_the_guide_names_every_setting_with_its_default():
    rows = dict(re.findall(r"^\| `DEEPMEMORY_HUB_(\w+)` \| `?([^`|]+?)`? \|", GUIDE, flags=re.MULTILINE))
    defaults = {field.name.upper(): field.default for field in fields(HubSettings)}
    assert set(rows) - {"DATA", "DATABASE"} == set(defaults)
    for name, default in defaults.items():
        assert rows[name] == (default if isinstance(default, str) else f"{float(default):g}"), name


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_guide_s_requests_work_as_written(hub, client, secrets, tmp_path):
    block = GUIDE.partition("## By hand")[2].partition("```sh\n")[2].partition("```")[0]
    lines = [line for line in block.splitlines() if "labelled.json" not in line and "/ID/" not in line]
    assert len(lines) >= 8
    script = "set -e\n" + "; echo\n".join(line.replace("curl ", "curl -sf ", 1) for line in lines)
    environment = {**os.environ, "DEEPMEMORY_HUB_URL": hub.url, "DEEPMEMORY_TOKEN": secrets["admin"]}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    replies = [json.loads(line) for line in done.stdout.splitlines() if line]
    assert [hit["id"] for reply in replies if "results" in reply for hit in reply["results"][0]["hits"]] == [
        "ice",
        "ice",
    ]
    assert replies[-1]["text"] == "Ice is frozen water."
    assert httpx.get(f"{hub.url}/docs").status_code == 200
