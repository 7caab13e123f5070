"""Deep Memory by the names of others: `deeplake` (Deep Lake 3), `langchain` and `llamaindex`."""
