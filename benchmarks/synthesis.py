"""What extractive queries add to labelled ones: recall on held-out queries after training with and without them.

python benchmarks/synthesis.py FOLDER --train 100 [--per-document 3] [--seed 0] [--hub]

The first queries of a BEIR folder train, the others are held out, as the tutorial has it. With ``--hub`` all of it goes
through a hub: a process of its own, on loopback, in a folder that is removed afterwards.
"""

import argparse
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from deepmemory.data import LabelledQueries
from deepmemory.formats import read_beir
from deepmemory.store import VectorStore
from deepmemory.synthesis import synthesize
from deepmemory.testing import HubProcess


@contextlib.contextmanager
def empty_store(*, on_hub: bool) -> Iterator[VectorStore]:
    """A store in memory, or on a hub that ends with it."""
    with contextlib.ExitStack() as stack:
        if on_hub:
            hub = stack.enter_context(HubProcess())
            os.environ["DEEPMEMORY_HUB_URL"] = hub.url
            token = hub.token("tutorial", "write")
            yield stack.enter_context(VectorStore("hub://tutorial/docs", embedder="local", token=token))
        else:
            yield stack.enter_context(VectorStore("memory://", embedder="local"))


def row(name: str, n: int, store: VectorStore, test: LabelledQueries, *, trained: bool) -> str:
    """One line of the table: recall on the held-out queries, with the layer where there is one."""
    found = store.search_many(list(test.queries), 10, deep_memory=trained)
    cells = []
    for k in (1, 3, 5, 10):
        shares = [
            len({hit.id for hit in hits[:k]} & wanted.keys()) / len(wanted)
            for hits, wanted in zip(found, test.qrels, strict=True)
        ]
        cells.append(f"{sum(shares) / len(shares):.2f}")
    return f"| {name} | {n} | {' | '.join(cells)} | {store.deep_memory.get_model() if trained else ''} |"


def main() -> None:
    """Train three ways, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=100)
    parser.add_argument("--per-document", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hub", action="store_true", help="search and train through a hub")
    chosen = parser.parse_args()
    collection = read_beir(chosen.folder)
    positions = collection.labelled_positions
    train, test = (collection.labelled(part) for part in (positions[: chosen.train], positions[chosen.train :]))
    print(
        "| trained on | queries | recall@1 | recall@3 | recall@5 | recall@10 | layer |\n|---|---|---|---|---|---|---|"
    )
    with empty_store(on_hub=chosen.hub) as store:
        store.add(
            [document.text for document in collection.documents],
            [document.metadata for document in collection.documents],
            [document.id for document in collection.documents],
            embeddings=collection.document_vectors,
        )
        made = synthesize(store, per_document=chosen.per_document, examples=train.queries, seed=chosen.seed)
        print(row("nothing", 0, store, test, trained=False))
        asked, extracts = [False] * len(train), [True] * len(made.questions)
        for name, queries, relevance, flags in (
            ("labelled queries", list(train.queries), train.relevance, asked),
            ("extractive queries", made.questions, made.relevance, extracts),
            ("both", [*train.queries, *made.questions], train.relevance + made.relevance, asked + extracts),
        ):
            store.deep_memory.train(queries=queries, relevance=relevance, made=flags, seed=chosen.seed, wait=True)
            print(row(name, len(queries), store, test, trained=True), flush=True)
        print("\n" + ", ".join(f"{stage} {count}" for stage, count in made.counts.items() if count))


if __name__ == "__main__":
    main()
