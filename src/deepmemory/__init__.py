"""Deep Memory: learn a small layer on the query embedding that lifts recall, on any vector store."""

__version__ = "0.1.0"
