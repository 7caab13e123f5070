"""Addresses of databases: what is written down of them, and how the password comes back that isn't.

A password is in no record, message or log. It comes from `DATABASE_URL`, from an address that this process attached
to, or from where the database's own client looks (``PGPASSWORD`` and ``.pgpass`` for PostgreSQL).
"""

import os
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from deepmemory.errors import InputError

__all__ = ["DATABASE_URL", "absolute_address", "folder_of", "remember", "with_secrets", "written_address"]

DATABASE_URL = "DEEPMEMORY_DATABASE_URL"
"""Environment variable with the whole address of a database, or those of several, separated by spaces."""

_SECRET_NAMES = ("password", "passwd", "pwd", "sslpassword", "api_key", "apikey", "api-key", "token", "secret")

_known: dict[str, str] = {}


def absolute_address(url: str) -> str:
    """An address, with a relative folder in it made absolute."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return str(Path(url).expanduser().absolute())
    return f"{scheme}://{Path(rest).absolute()}" if rest.startswith(".") else url


def folder_of(address: str) -> Path | None:
    """The folder or file of this machine that an absolute address names; None where it is elsewhere."""
    _, separator, rest = address.partition("://")
    if separator and not rest.startswith("/"):
        return None
    return Path(unquote(rest.partition("?")[0]) if separator else address)


def written_address(url: str) -> str:
    """An absolute address as it is written down: without its password.

    Raises:
        InputError: it can't be told where the password ends, or it is where none is looked for. The message has
            nothing of the address.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        if "password=" in url.replace(" ", "").lower():
            raise InputError("the address of a database is a URL, such as postgresql://user@host/database")
        return url
    _refuse_secrets_in_query(url)
    authority, slash, path = rest.partition("/")
    if "@" not in authority:
        # A password with an unencoded slash would end the authority, and its end would be taken for the path.
        if "@" in path.partition("?")[0] and authority.count(":"):
            raise InputError(
                "a password in an address is percent-encoded (a slash is %2F, an @ is %40); encode it, or leave it out "
                f"and give it by the variable {DATABASE_URL}"
            )
        return url
    user, _, host = authority.rpartition("@")
    name = user.partition(":")[0]
    return f"{scheme}://{name}@{host}{slash}{path}" if name else f"{scheme}://{host}{slash}{path}"


def remember(url: str) -> None:
    """Keep an absolute address with its password for as long as this process lives."""
    written = written_address(url)
    if written != url:
        _known[written] = url


def with_secrets(written: str) -> str:
    """A written address with its password, where one is known."""
    for url in os.environ.get(DATABASE_URL, "").split():
        if written_address(url) == written:
            return url
    return _known.get(written, written)


def _refuse_secrets_in_query(url: str) -> None:
    query = urlsplit(url.replace("[", "").replace("]", "")).query
    found = [name for name, _ in parse_qsl(query, keep_blank_values=True) if name.lower() in _SECRET_NAMES]
    if found:
        raise InputError(
            f"an address has its password before the host, as in postgresql://user:password@host/database; found one "
            f"under {found[0]!r} after the question mark"
        )
