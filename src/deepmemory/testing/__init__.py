"""For tests of code that uses Deep Memory: fakes that speak the real protocols."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepmemory.testing.backend_contract import BackendContract
    from deepmemory.testing.filled_elsewhere import FilledElsewhere
    from deepmemory.testing.hub_process import HubProcess
    from deepmemory.testing.openai_chat import ChatReply, ChatRequest
    from deepmemory.testing.openai_faults import Fault
    from deepmemory.testing.openai_server import OpenAIServer
    from deepmemory.testing.postgres_server import PostgresServer

__all__ = [
    "BackendContract",
    "ChatReply",
    "ChatRequest",
    "Fault",
    "FilledElsewhere",
    "HubProcess",
    "OpenAIServer",
    "PostgresServer",
]

_HOMES = {
    "BackendContract": "deepmemory.testing.backend_contract",
    "ChatReply": "deepmemory.testing.openai_chat",
    "ChatRequest": "deepmemory.testing.openai_chat",
    "Fault": "deepmemory.testing.openai_faults",
    "FilledElsewhere": "deepmemory.testing.filled_elsewhere",
    "HubProcess": "deepmemory.testing.hub_process",
    "OpenAIServer": "deepmemory.testing.openai_server",
    "PostgresServer": "deepmemory.testing.postgres_server",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: some of it needs test dependencies that the rest does not."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
