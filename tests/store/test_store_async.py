"""A store under an event loop: the loop goes on while the store works."""

import asyncio

import psycopg
import pytest
import synonyms

from deepmemory import VectorStore
from deepmemory.errors import InputError

IDS, TEXTS = synonyms.documents()
QUERIES, RELEVANCE = synonyms.questions(TEXTS, IDS)


@pytest.fixture(params=["memory", "postgres"])
def store(request):
    """An empty store in memory and in PostgreSQL."""
    path = "memory://" if request.param == "memory" else request.getfixturevalue("own_url")
    with VectorStore(path, embedder=synonyms.word_vectors) as store:
        yield store


def test_each_method_does_what_its_twin_does(store) -> None:
    async def scenario() -> None:
        assert await store.aadd(TEXTS, ids=IDS) == IDS
        assert await store.aget(IDS[:2]) == store.get(IDS[:2])
        assert await store.adelete(IDS[:1]) == 1
        with pytest.raises(InputError, match="say what to delete"):
            await store.adelete()
        found = await asyncio.gather(*(store.asearch(query, k=5, filter={"id": IDS[:30]}) for query in QUERIES[:40]))
        assert found == [store.search(query, k=5, filter={"id": IDS[:30]}) for query in QUERIES[:40]]
        assert await store.asearch_many(QUERIES, k=3) == store.search_many(QUERIES, k=3)
        with pytest.raises(InputError, match="k is"):
            await store.asearch("term1", k=0)

    asyncio.run(scenario())


def test_a_layer_has_its_part(store) -> None:
    store.add(TEXTS, ids=IDS)
    store.deep_memory.train(QUERIES, RELEVANCE, wait=True)

    async def scenario() -> None:
        with_layer = await store.asearch(QUERIES[0], k=3)
        without = await store.asearch(QUERIES[0], k=3, deep_memory=False)
        assert with_layer == store.search(QUERIES[0], k=3) != without

    asyncio.run(scenario())


def test_the_loop_goes_on_while_the_database_waits(own_url) -> None:
    table = own_url.rpartition("=")[2]
    with VectorStore(own_url, embedder=synonyms.word_vectors) as store:
        store.add(TEXTS, ids=IDS)
        before = store.search(QUERIES[0], k=3)

        async def scenario() -> None:
            # Only the loop can let go of the lock that the searches wait for.
            with psycopg.connect(own_url.partition("&")[0]) as holder:
                holder.execute(f'LOCK TABLE "{table}" IN ACCESS EXCLUSIVE MODE')
                waiting = [asyncio.create_task(store.asearch(QUERIES[0], k=3)) for _ in range(4)]
                _, pending = await asyncio.wait(waiting, timeout=0.5)
                assert len(pending) == len(waiting)
                holder.rollback()
                assert await asyncio.wait_for(asyncio.gather(*waiting), timeout=60) == [before] * len(waiting)

        asyncio.run(scenario())
