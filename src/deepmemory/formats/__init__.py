"""Files that other tools read and write: BEIR folders, TREC qrels and runs, LlamaIndex datasets, labelled queries.

Readers list every bad line at once, with its number; nothing is half read. Writers go through a temporary file or
folder that is renamed when it is complete, so that nothing is half written. Everything is UTF-8; whatever is compressed
by gzip is read as if it were not.
"""

from deepmemory.formats.beir import read_beir, write_beir
from deepmemory.formats.collection import Collection, embedded_text
from deepmemory.formats.labelled import read_labelled, write_labelled
from deepmemory.formats.llama_index import read_llama_index
from deepmemory.formats.trec import read_trec_qrels, read_trec_run, write_trec_qrels, write_trec_run

__all__ = [
    "Collection",
    "embedded_text",
    "read_beir",
    "read_labelled",
    "read_llama_index",
    "read_trec_qrels",
    "read_trec_run",
    "write_beir",
    "write_labelled",
    "write_trec_qrels",
    "write_trec_run",
]
