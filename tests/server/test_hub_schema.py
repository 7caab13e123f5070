"""The OpenAPI document is true: whatever is sent, the hub answers as it says, and never with a 500."""

from schemathesis.checks import CheckContext  # noqa: F401  what checks are called with

EXAMPLES = 6
OPERATIONS = 38
STREAMS = {"/v1/orgs/{org}/datasets/{name}/jobs/{id}/events"}
"""Server-sent events, which can't be read as one JSON value."""
