"""A store on a Deep Memory hub, over HTTP: what ``hub://org/name`` is made of."""

from deepmemory.hub.address import HubAddress
from deepmemory.hub.backend import HubBackend
from deepmemory.hub.connection import Effect, HubConnection
from deepmemory.hub.dataset import DatasetRecord, HubDataset
from deepmemory.hub.deep_memory import HubDeepMemory
from deepmemory.hub.embedder import HubEmbedder
from deepmemory.hub.search import explain, search, search_words
from deepmemory.hub.state import HubState

__all__ = [
    "DatasetRecord",
    "Effect",
    "HubAddress",
    "HubBackend",
    "HubConnection",
    "HubDataset",
    "HubDeepMemory",
    "HubEmbedder",
    "HubState",
    "explain",
    "search",
    "search_words",
]
