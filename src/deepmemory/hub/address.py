"""Where a dataset is: the path that names it, the hub's address and the token."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from deepmemory.errors import AuthenticationError, InputError

__all__ = ["DEFAULT_URL", "TOKEN_VARIABLE", "URL_VARIABLE", "HubAddress"]

URL_VARIABLE = "DEEPMEMORY_HUB_URL"
TOKEN_VARIABLE = "DEEPMEMORY_TOKEN"
DEFAULT_URL = "http://127.0.0.1:8900"

_SCHEME = "hub://"
_SEGMENT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_TOKEN = re.compile(r"[!-~]+")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class HubAddress:
    """One dataset of one hub, and the right to use it.

    Attributes:
        url: of the hub, without a slash at its end.
        org: the organisation.
        name: the dataset.
        token: secret.
    """

    url: str
    org: str
    name: str
    token: str = field(repr=False)

    @classmethod
    def of(cls, path: str, token: str | None, environment: Mapping[str, str] | None = None) -> "HubAddress":
        """Read a path such as ``hub://acme/docs``, with the hub's address and the token from the environment.

        Args:
            path: names organisation and dataset.
            token: by default what ``DEEPMEMORY_TOKEN`` has.
            environment: by default the process's.

        Raises:
            InputError: the path, or the hub's address, has the wrong shape.
            AuthenticationError: there is no token, or it holds what no token has.
        """
        environment = os.environ if environment is None else environment
        org, name = _segments(path)
        url = _checked_url(environment.get(URL_VARIABLE, "").strip() or DEFAULT_URL)
        return cls(url, org, name, _checked_token(path, token or environment.get(TOKEN_VARIABLE) or ""))

    @property
    def path(self) -> str:
        """The path, in its one form."""
        return f"{_SCHEME}{self.org}/{self.name}"

    @property
    def is_loopback(self) -> bool:
        """Whether the hub is on this machine, so that no proxy is in between."""
        return urlsplit(self.url).hostname in _LOOPBACK


def _segments(path: str) -> tuple[str, str]:
    # Letters are made lower-case only where they are ASCII: others may turn into ASCII ones.
    lowered = path.lower() if path.isascii() else path
    segments = lowered.removeprefix(_SCHEME).removesuffix("/").split("/")
    if not lowered.startswith(_SCHEME) or len(segments) != 2 or not all(map(_SEGMENT.fullmatch, segments)):
        raise InputError(
            "a store on a hub is hub://ORGANISATION/NAME, each of letters, digits, '-' and '_', 63 at most and "
            f"beginning with a letter or digit; found {path!r}"
        )
    return segments[0], segments[1]


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable or not _TOKEN.fullmatch(url) or parts.query or parts.fragment or parts.username is not None:
        raise InputError(
            f"{URL_VARIABLE} is the address of a hub, such as {DEFAULT_URL} or https://hub.example.org; found {url!r}"
        )
    return url.rstrip("/")


def _checked_token(path: str, token: str) -> str:
    token = token.strip()
    if not token:
        raise AuthenticationError(
            f"{path} needs a token: pass token=..., or set {TOKEN_VARIABLE}; on the hub's machine "
            "'deepmemory token create' makes one"
        )
    if not _TOKEN.fullmatch(token):
        raise AuthenticationError(
            f"the token for {path} has spaces or other characters that no token has; copy it anew, without quotes"
        )
    return token
