"""From a site or a folder to documents: crawl, extract, split, keep in step."""

from deepmemory.ingest.crawl import crawl
from deepmemory.ingest.extract import extract
from deepmemory.ingest.folder import read_folder
from deepmemory.ingest.options import CrawlOptions
from deepmemory.ingest.report import IngestReport
from deepmemory.ingest.split import Chunk, SplitOptions, split
from deepmemory.ingest.sync import IngestOptions, ingest
from deepmemory.ingest.target import Target
from deepmemory.ingest.text import Anchor, PageText, Section
from deepmemory.ingest.visit import Known, Page, Status, Visit

__all__ = [
    "Anchor",
    "Chunk",
    "CrawlOptions",
    "IngestOptions",
    "IngestReport",
    "Known",
    "Page",
    "PageText",
    "Section",
    "SplitOptions",
    "Status",
    "Target",
    "Visit",
    "crawl",
    "extract",
    "ingest",
    "read_folder",
    "split",
]
