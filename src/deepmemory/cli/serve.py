"""``deepmemory serve`` and ``deepmemory token``: the hub, on its own machine."""

from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from deepmemory.cli.ending import INTERRUPTED
from deepmemory.cli.options import Json
from deepmemory.cli.output import print_json, print_table, shell_word
from deepmemory.errors import InputError, MissingExtraError, NotAStoreError

if TYPE_CHECKING:
    from deepmemory.server import HubFolder, Registry, Token

__all__ = ["need_server", "serve", "token"]

DEFAULT_DATA = Path("deepmemory-hub")

_SERVER = ("dbos", "fastapi", "prometheus_client", "sqlalchemy", "structlog", "uvicorn")

Data: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--data", envvar="DEEPMEMORY_HUB_DATA", metavar="DIR", help="Where the hub keeps everything.", show_envvar=True
    ),
]
Limit: TypeAlias = Annotated[float | None, typer.Option(min=0, metavar="N", show_default=False)]


def serve(  # noqa: PLR0917  options, which are given by name
    data: Data = DEFAULT_DATA,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="To listen at; 0.0.0.0 for every network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, metavar="N", help="To listen at; 0 for a free one.")] = 8900,
    max_body_mb: Annotated[float | None, typer.Option(metavar="MB", help="Largest request. [default: 64]")] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="N", help="Requests a second for each token; 0: any. [default: 1000]")
    ] = None,
    training_jobs: Annotated[int | None, typer.Option(metavar="N", help="Trainings at once. [default: 1]")] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="Requests worked on at once. [default: 32]")] = None,
    log_queries: Annotated[bool, typer.Option("--log-queries", help="Show the texts of queries in the log.")] = False,
    as_json: Json = False,
) -> None:
    """Run a hub: stores for a team, behind HTTP.

    Others use its datasets by the path hub://ORG/NAME wherever a store is named. Every request needs a token, and
    the first one is made on this machine:

      deepmemory token create --org acme --scope admin
      deepmemory serve

    More limits are set by variables, such as DEEPMEMORY_HUB_MAX_DOCUMENTS; docs/hub.md lists them. The log on stderr
    is JSON, one line for each request.
    """
    need_server()
    from deepmemory import server

    settings = server.HubSettings.from_environment().replaced(
        max_body_mb=max_body_mb,
        rate=rate,
        training_jobs=training_jobs,
        threads=threads,
        log_queries=log_queries or None,
    )

    def ready(address: str) -> None:
        if as_json:
            print_json({"address": address, "data": str(data)})
        else:
            typer.echo(_welcome(address, data))

    folder = server.HubFolder(data)
    folder.prepare()  # what is wrong with the folder is said before everything is loaded
    if server.serve(folder, host=host, port=port, settings=settings, on_ready=ready):
        raise typer.Exit(INTERRUPTED)


def _welcome(address: str, data: Path) -> str:
    where = "" if data == DEFAULT_DATA else f" --data {shell_word(str(data))}"
    return f"""\
The hub serves {data} at {address} until Ctrl-C.

Make a token, on this machine:
  deepmemory token create --org acme --scope admin{where}
Use it, from anywhere that reaches this address:
  export DEEPMEMORY_HUB_URL={address} DEEPMEMORY_TOKEN=dm_...
  deepmemory ingest ./handbook --store hub://acme/handbook
What there is: {address}/docs"""


def token(  # noqa: PLR0917  options, which are given by name
    action: Annotated[str, typer.Argument(metavar="create|list|revoke", help="What to do.")],
    id: Annotated[str | None, typer.Argument(metavar="ID", help="The token to revoke.")] = None,
    data: Data = DEFAULT_DATA,
    org: Annotated[str | None, typer.Option(metavar="NAME", help="The organisation; a new one is made.")] = None,
    scope: Annotated[str, typer.Option(metavar="read|write|admin", help="What it may do.")] = "write",
    name: Annotated[str, typer.Option(metavar="TEXT", help="To tell it from others.")] = "",
    expires_in_days: Annotated[
        float | None, typer.Option(metavar="N", help="When it ends; by default never.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Make, list and revoke a hub's tokens, on the hub's machine.

    A token is for one organisation, and may read, write (also train) or administer (also delete datasets, and make
    tokens). Its secret is shown once, and kept nowhere. A hub that runs takes notice at once.

      deepmemory token create --org acme --scope admin
      deepmemory token create --org acme --scope read --expires-in-days 90
      deepmemory token list
      deepmemory token revoke 0a1b2c3d4e5f
    """
    need_server()
    from deepmemory.server import HubFolder

    folder = HubFolder(data)
    if action == "create":
        if org is None:
            raise InputError("say for which organisation: deepmemory token create --org NAME")
        folder.prepare()
        _create(_registry(folder), org, scope, name, expires_in_days, as_json=as_json)
    elif action == "list":
        _list(_registry(folder), org, as_json=as_json)
    elif action == "revoke":
        if id is None:
            raise InputError("say which token: deepmemory token revoke ID ('deepmemory token list' shows them)")
        _revoke(_registry(folder), id, as_json=as_json)
    else:
        raise InputError(f"create, list or revoke a token; found {action!r}")


def _create(
    registry: "Registry", org: str, scope: str, name: str, expires_in_days: float | None, *, as_json: bool
) -> None:
    secret, made = registry.create_token(org, scope, name, expires_in_days)
    if as_json:
        print_json({"org": made.org, **made.as_dict(), "secret": secret})
        return
    typer.echo(secret)
    typer.echo(f"Token {made.id} may {made.scope} in {made.org}. Its secret is not shown again.", err=True)


def _list(registry: "Registry", org: str | None, *, as_json: bool) -> None:
    found = registry.tokens(org)
    if as_json:
        print_json([{"org": made.org, **made.as_dict()} for made in found])
    elif found:
        rows = [
            [made.id, made.org, made.name, made.scope, _day(made.created), _day(made.last_used), _end(made)]
            for made in found
        ]
        print_table(["ID", "ORG", "NAME", "SCOPE", "MADE", "LAST USED", "ENDS"], rows)
    else:
        typer.echo("There are no tokens yet. To make one: deepmemory token create --org NAME")


def _revoke(registry: "Registry", id: str, *, as_json: bool) -> None:
    if not registry.revoke_token(id):
        raise InputError(f"there is no token {id!r}; 'deepmemory token list' shows those that are")
    if as_json:
        print_json({"id": id, "revoked": True})
    else:
        typer.echo(f"Token {id} is revoked.")


def _registry(folder: "HubFolder") -> "Registry":
    """The database of a hub that is there.

    Raises:
        NotAStoreError: there is none.
    """
    from deepmemory.server import Registry

    if not folder.database.exists() and not (folder.root / "hub.json").exists():
        raise NotAStoreError(
            f"there is no hub's data in {folder.root}; name its folder with --data, or make the first token"
        )
    return Registry(folder)


def need_server() -> None:
    """Raise `MissingExtraError` where what a hub is made of is not installed."""
    if not all(find_spec(module) for module in _SERVER):
        raise MissingExtraError("a hub", "server")


def _day(seconds: float | None) -> str:
    return "" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}"


def _end(made: "Token") -> str:
    if made.revoked is not None:
        return f"revoked {_day(made.revoked)}"
    return _day(made.expires) or "never"
