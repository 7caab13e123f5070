"""The hub: stores for a team, behind HTTP, with tokens, durable training jobs and limits.

Everything that it keeps is in one folder: `hub.sqlite` has organisations, tokens and the names of datasets; each
dataset is an ordinary store in a folder of its own; the workflows that train are in `workflows.sqlite`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepmemory.server.attached import attach_dataset
    from deepmemory.server.folder import HubFolder
    from deepmemory.server.registry import Registry, Scope, Token
    from deepmemory.server.serving import serve
    from deepmemory.server.settings import HubSettings

__all__ = ["HubFolder", "HubSettings", "Registry", "Scope", "Token", "attach_dataset", "serve"]

_HOMES = {
    "HubFolder": "deepmemory.server.folder",
    "HubSettings": "deepmemory.server.settings",
    "Registry": "deepmemory.server.registry",
    "Scope": "deepmemory.server.registry",
    "Token": "deepmemory.server.registry",
    "attach_dataset": "deepmemory.server.attached",
    "serve": "deepmemory.server.serving",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: making a token needs none of what serves."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
