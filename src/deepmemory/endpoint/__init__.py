"""One route of an OpenAI-compatible API: asked with patience, and its failures put in one sentence."""

from deepmemory.endpoint.address import OPENAI_URL, Access
from deepmemory.endpoint.endpoint import Endpoint, Route
from deepmemory.endpoint.said import UnreadableReplyError, complaint, excerpt, json_reply

__all__ = [
    "OPENAI_URL",
    "Access",
    "Endpoint",
    "Route",
    "UnreadableReplyError",
    "complaint",
    "excerpt",
    "json_reply",
]
