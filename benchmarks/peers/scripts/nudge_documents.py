"""NUDGE-M and NUDGE-N (Zeighami et al. 2024), by their authors' package: document vectors move, queries stay.

The package wants a validation set to choose how far to move; it is drawn from the training queries.
"""

from typing import Any

import torch
from exchange import Fitted, Given, main
from nudge import NUDGEM, NUDGEN


def fit(given: Given, settings: dict[str, Any]) -> Fitted:
    """Move the documents.

    Settings: ``variant`` M or N, ``validation`` the share of the training queries that chooses gamma, and for N
    ``val_k``. NUDGE-M's vectors come back unnormalised and are searched by dot product, as its authors say.
    """
    kept, validation = given.kept_and_validation(settings["validation"])
    sets = [
        {
            "q_embs": given.train[rows],
            "q_ans_indx": [[document for document, _ in given.relevance[row]] for row in rows],
        }
        for rows in (kept, validation)
    ]
    device = torch.device("cpu")
    if settings["variant"] == "M":
        documents = NUDGEM(device=device).finetune_embeddings(given.documents, *sets)
    else:
        documents = NUDGEN(device=device).finetune_embeddings(given.documents, *sets, val_k=settings["val_k"])
    return Fitted(documents=documents)


if __name__ == "__main__":
    torch.manual_seed(0)
    main(fit)
