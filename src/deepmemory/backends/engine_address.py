"""Addresses of vector databases: ``chroma://host:8000/docs``, ``qdrant:///var/lib/vectors/docs`` and their like."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from deepmemory.errors import InputError

__all__ = ["ENGINE_SCHEMES", "STATE_VARIABLE", "EngineAddress", "is_engine_url", "state_folder"]

ENGINE_SCHEMES: Mapping[str, str] = {
    "chroma": "chroma",
    "chromas": "chroma",
    "qdrant": "qdrant",
    "qdrants": "qdrant",
    "milvus": "milvus",
    "milvuss": "milvus",
}
"""The engine of each scheme; the ones with an s at their end are for servers that speak TLS."""

STATE_VARIABLE = "DEEPMEMORY_STATE"

_PORTS = {"chroma": 8000, "qdrant": 6333, "milvus": 19530}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST_SLUG = 60


@dataclass(frozen=True, slots=True)
class EngineAddress:
    """Where a database is, and which of its collections is meant.

    Attributes:
        engine: ``"chroma"``, ``"qdrant"`` or ``"milvus"``.
        collection: its name; empty where only the database is meant.
        host: of a server; None for a database in a folder or file.
        port: of a server.
        tls: whether the server is spoken to by TLS.
        folder: the absolute folder, or file, of a database in this process; None for a server.
        options: what the address says after its question mark.
    """

    engine: str
    collection: str = ""
    host: str | None = None
    port: int = 0
    tls: bool = False
    folder: Path | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_store(cls, url: str) -> "EngineAddress":
        """Read an address whose last segment is a collection.

        Raises:
            InputError: it has another shape.
        """
        whole = cls.of_database(url)
        path = urlsplit(url).path.rstrip("/")
        place, _, name = path.rpartition("/")
        collection = unquote(name)
        place_is_right = not place if whole.folder is None else whole.folder.parent != Path(whole.folder.anchor)
        if not _NAME.fullmatch(collection) or not place_is_right:
            raise InputError(
                f"a store in {whole.engine.capitalize()} is {whole.engine}://host:port/collection or "
                f"{whole.engine}:///folder/collection, the collection named by letters, digits, '.', '_' and '-'; "
                f"found {url!r}"
            )
        folder = None if whole.folder is None else whole.folder.parent
        return cls(whole.engine, collection, whole.host, whole.port, whole.tls, folder, whole.options)

    @classmethod
    def of_database(cls, url: str) -> "EngineAddress":
        """Read an address of a database, of which no collection is named.

        Raises:
            InputError: it has another shape, or a password in it.
        """
        parts = urlsplit(url)
        engine = ENGINE_SCHEMES.get(parts.scheme.lower())
        if engine is None:
            raise InputError(f"expected an address that begins with {', '.join(ENGINE_SCHEMES)}; found {url!r}")
        if "@" in parts.netloc:
            raise InputError(
                f"an address is kept and shown, so a password or token does not belong in it: take it out of the "
                f"{engine}:// address, and set {engine.upper()}_TOKEN or pass storage_options={{'token': ...}}"
            )
        options = dict(parse_qsl(parts.query))
        if parts.netloc in ("", ".", ".."):
            folder = Path(parts.netloc + unquote(parts.path)).absolute()
            return cls(engine, folder=Path(os.path.normpath(folder)), options=options)
        try:
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise InputError(f"{url!r} has no usable port: {error}") from error
        if not host:
            raise InputError(f"{url!r} names no host; expected such as {engine}://localhost:{_PORTS[engine]}/docs")
        return cls(engine, "", host, port or _PORTS[engine], parts.scheme.lower() != engine, None, options)

    @property
    def place(self) -> str:
        """The database in one form, the same for each spelling."""
        start = f"{self.engine}{'s' if self.tls else ''}://"
        if self.folder is not None:
            return start + quote(self.folder.as_posix())
        host = f"[{self.host}]" if ":" in (self.host or "") else self.host
        return f"{start}{host}:{self.port}"

    @property
    def url(self) -> str:
        """The collection in one form, the same for each spelling."""
        options = "&".join(f"{quote(key)}={quote(value)}" for key, value in sorted(self.options.items()))
        return f"{self.place}/{self.collection}" + (f"?{options}" if options else "")

    def token(self, storage_options: Mapping[str, str] | None, *variables: str) -> str | None:
        """The server's token: what was passed in, or what an environment variable has."""
        given = (storage_options or {}).get("token")
        names = (f"{self.engine.upper()}_TOKEN", *variables)
        return given or next((os.environ[name] for name in names if os.environ.get(name)), None)


def is_engine_url(path: str) -> bool:
    """Whether a path is an address of a vector database."""
    scheme, separator, _ = path.partition("://")
    return bool(separator) and scheme.lower() in ENGINE_SCHEMES


def state_folder(url: str) -> Path:
    """The folder in which a store in a database has its record, layers and jobs: one for each collection.

    It is below ``$DEEPMEMORY_STATE`` or, without that, in the user's folder for data.

    Raises:
        InputError: the address has another shape.
    """
    address = EngineAddress.of_store(url)
    root = os.environ.get(STATE_VARIABLE)
    if root is None:
        import platformdirs

        root = str(platformdirs.user_data_path("deepmemory") / "stores")
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", address.url).strip("-")[-_LONGEST_SLUG:].lstrip(".-")
    return Path(root).absolute() / f"{slug}-{hashlib.sha256(address.url.encode()).hexdigest()[:12]}"
