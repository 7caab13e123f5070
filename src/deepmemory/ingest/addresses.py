"""Connections to public addresses only, however a private one is spelled or reached.

The name is resolved once, and the connection goes to an address that was checked; so neither a redirect, nor a name
that resolves to something else a moment later, nor ``http://2130706433/`` leads to what only this machine can see.
"""

import ipaddress
import socket
from collections.abc import Iterable
from typing import TypeAlias

import httpcore

__all__ = ["PublicOnly", "RefusedAddressError", "is_public"]

_SocketOption: TypeAlias = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RefusedAddressError(Exception):
    """A name leads to an address that is not public."""


def is_public(address: str) -> bool:
    """Whether an IP address can be reached by everyone; one that carries an IPv4 address is judged by that."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        carried = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            carried = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(str(carried))
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


class PublicOnly(httpcore.NetworkBackend):
    """Connects to the first address of a name that answers, provided that all of them are public."""

    def __init__(self) -> None:
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve, check and connect.

        Raises:
            RefusedAddressError: one of the addresses is not public.
            httpcore.ConnectError: the name is unknown, or nothing answers.
        """
        addresses = _resolved(host, port)
        private = [address for address in addresses if not is_public(address)]
        if private:
            raise RefusedAddressError(f"{host} is the private address {private[0]}")
        failure: Exception | None = None
        for address in addresses:
            try:
                return self._sockets.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure or httpcore.ConnectError(f"{host} has no address")


def _resolved(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"the name {host} is unknown") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
