"""Queries made out of documents, to train on where there are too few real ones.

Real queries with their answers come first, a language model's second, and extracts from the documents third.
"""

from deepmemory.synthesis.examples import read_examples
from deepmemory.synthesis.extractive import ExtractiveGenerator
from deepmemory.synthesis.filters import STAGES, FilterOptions, QueryFilter
from deepmemory.synthesis.generate import estimate, generate_queries, synthesize
from deepmemory.synthesis.llm import Answer, ChatModel, LangChainChat, OpenAIChat, resolve_llm
from deepmemory.synthesis.model import KINDS, Generated, Kind, Prices, Synthesis, Usage
from deepmemory.synthesis.output import FORMATS, OutputFormat, check_output, write_queries

__all__ = [
    "FORMATS",
    "KINDS",
    "STAGES",
    "Answer",
    "ChatModel",
    "ExtractiveGenerator",
    "FilterOptions",
    "Generated",
    "Kind",
    "LangChainChat",
    "OpenAIChat",
    "OutputFormat",
    "Prices",
    "QueryFilter",
    "Synthesis",
    "Usage",
    "check_output",
    "estimate",
    "generate_queries",
    "read_examples",
    "resolve_llm",
    "synthesize",
    "write_queries",
]
