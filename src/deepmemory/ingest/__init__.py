"""From a site or a folder to documents: crawl, extract, split, keep in step."""

from deepmemory.ingest.extract import extract
from deepmemory.ingest.split import Chunk, SplitOptions, split
from deepmemory.ingest.text import Anchor, PageText, Section

__all__ = ["Anchor", "Chunk", "PageText", "Section", "SplitOptions", "extract", "split"]
