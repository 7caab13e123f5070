"""An httpx transport whose connections can be held to public addresses."""

from collections.abc import Iterator

import httpcore
import httpx

from deepmemory.ingest.addresses import PublicOnly

__all__ = ["CheckedTransport"]


class CheckedTransport(httpx.BaseTransport):
    """Sends requests directly, never through a proxy: behind one, nobody could tell where they go.

    Errors are httpcore's own.
    """

    def __init__(self, *, allow_private: bool, connections: int) -> None:
        """Take whether private addresses may be reached, and how many connections are kept."""
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=connections,
            network_backend=None if allow_private else PublicOnly(),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; its reply's body is read by the caller."""
        reply = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                extensions=request.extensions,
            )
        )
        return httpx.Response(reply.status, headers=reply.headers, stream=_Body(reply), extensions=reply.extensions)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, reply: httpcore.Response) -> None:
        self._reply = reply

    def __iter__(self) -> Iterator[bytes]:
        return self._reply.iter_stream()

    def close(self) -> None:
        self._reply.close()
