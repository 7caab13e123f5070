"""LlamaIndex's linear and two-layer adapters on the query, by its own engine, loss and training loop.

The engine asks an embedding model for texts; it is given one that looks precomputed vectors up. Of a query with several
answers it learns the first alone, which is its way.
"""

import tempfile
from typing import Any

import numpy as np
import torch
from exchange import Fitted, Given, main
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.embeddings.adapter.utils import TwoLayerNN
from llama_index.finetuning import EmbeddingAdapterFinetuneEngine, EmbeddingQAFinetuneDataset


class Precomputed(BaseEmbedding):
    """Vectors by the name of the query or document."""

    vectors: dict[str, list[float]]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self.vectors[text]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self.vectors[query]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self.vectors[query]


def fit(given: Given, settings: dict[str, Any]) -> Fitted:
    """Train one adapter.

    Settings: ``layers`` 1 or 2, ``epochs``, ``batch_size``, ``rate`` (of AdamW).
    """
    torch.manual_seed(given.seed)
    dim = given.documents.shape[1]
    queries = {f"q{row}": f"q{row}" for row in range(len(given.train))}
    relevant = {f"q{row}": [f"d{document}" for document, _ in pairs] for row, pairs in enumerate(given.relevance)}
    wanted = sorted({document for pairs in given.relevance for document, _ in pairs})
    vectors = {f"q{row}": vector for row, vector in enumerate(given.train.tolist())}
    vectors |= {f"d{row}": given.documents[row].tolist() for row in wanted}
    with tempfile.TemporaryDirectory() as folder:
        engine = EmbeddingAdapterFinetuneEngine(
            EmbeddingQAFinetuneDataset(
                queries=queries, corpus={f"d{row}": f"d{row}" for row in wanted}, relevant_docs=relevant
            ),
            Precomputed(vectors=vectors),
            batch_size=settings["batch_size"],
            epochs=settings["epochs"],
            adapter_model=TwoLayerNN(dim, 1024, dim, bias=True, add_residual=True) if settings["layers"] == 2 else None,
            dim=dim,
            device="cpu",
            model_output_path=folder,
            optimizer_params={"lr": settings["rate"]},
            show_progress_bar=False,
        )
        engine.finetune()
    model = engine.model.eval()

    def transform(queries: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model(torch.from_numpy(queries)).numpy()

    return Fitted(transform=transform)


if __name__ == "__main__":
    main(fit)
