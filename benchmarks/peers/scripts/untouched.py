"""The baseline: nothing learned."""

from typing import Any

from exchange import Fitted, Given, main


def fit(_given: Given, _settings: dict[str, Any]) -> Fitted:
    """Search as it is."""
    return Fitted()


if __name__ == "__main__":
    main(fit)
