"""Retrieval-augmented generation: answers with citations from what was retrieved, and how good the contexts are.

    answer = rag.answer("how do I ...", store, llm="openai:gpt-4o-mini")
    print(answer)

Any retriever will do: a store, a LangChain retriever, or a function from a question and k to documents.
"""

from deepmemory.rag.answer import NOT_FOUND, Answer, answer, stream_answer
from deepmemory.rag.context_recall import ContextRecall, context_recall, convert_relevance_to_ground_truth
from deepmemory.rag.sources import Retriever, Source, retrieve

__all__ = [
    "NOT_FOUND",
    "Answer",
    "ContextRecall",
    "Retriever",
    "Source",
    "answer",
    "context_recall",
    "convert_relevance_to_ground_truth",
    "retrieve",
    "stream_answer",
]
