"""The Deep Memory tutorial, from the pages of a documentation site to the figures: see docs/tutorial.md.

make tutorial
python examples/tutorial.py --site https://docs.example.org/ --path hub://acme/docs --llm gpt-4o-mini
"""

import argparse
import logging
import os
import random
import warnings
from collections.abc import Sequence
from urllib.parse import urldefrag, urljoin

import requests
from bs4 import BeautifulSoup
from surroundings import Surroundings, surroundings

os.environ.setdefault("USER_AGENT", "deepmemory-tutorial")  # AsyncHtmlLoader wants to be told who it is
warnings.filterwarnings("ignore", category=DeprecationWarning)  # of the libraries, about themselves
logging.getLogger("langchain_community").setLevel(logging.ERROR)

from langchain_classic.chains import RetrievalQA  # noqa: E402
from langchain_community.document_loaders.async_html import AsyncHtmlLoader  # noqa: E402
from langchain_community.document_transformers import Html2TextTransformer  # noqa: E402
from langchain_core.documents import Document  # noqa: E402
from langchain_openai import ChatOpenAI  # noqa: E402
from langchain_text_splitters import RecursiveCharacterTextSplitter  # noqa: E402

from deepmemory.evaluation.text import saving  # noqa: E402
from deepmemory.integrations.langchain import DeepLake  # noqa: E402
from deepmemory.rag import answer, context_recall, convert_relevance_to_ground_truth  # noqa: E402
from deepmemory.synthesis import generate_queries  # noqa: E402

CHUNK_SIZE = 4096


def get_all_links(url: str) -> list[str]:
    """The addresses that a page links to, each once."""
    response = requests.get(url, timeout=30)
    if response.status_code != 200:
        print(f"Failed to retrieve the page: {url}")
        return []
    soup = BeautifulSoup(response.content, "html.parser")
    links = [urldefrag(urljoin(url, a["href"])).url for a in soup.find_all("a", href=True) if a["href"]]
    return list(dict.fromkeys(link for link in links if link.startswith(url)))


def read_pages(around: Surroundings, most: int) -> list[Document]:
    """1. The site's pages as text, in chunks."""
    all_links = get_all_links(around.site)
    if around.pages is not None:
        all_links = [link for link in all_links if link.endswith(around.pages)]
    loader = AsyncHtmlLoader(all_links[:most])
    docs = loader.load()
    print(f"{len(docs)} pages of {around.site}")

    html2text = Html2TextTransformer()
    docs_transformed = html2text.transform_documents(docs)

    docs_new = []
    text_splitter = RecursiveCharacterTextSplitter(chunk_size=CHUNK_SIZE)
    for doc in docs_transformed:
        if len(doc.page_content) < CHUNK_SIZE:
            docs_new.append(doc)
        else:
            docs_new.extend(text_splitter.create_documents([doc.page_content], [doc.metadata]))
    return docs_new


def shuffled(
    questions: list[str], relevances: list[list[tuple[str, float]]]
) -> tuple[list[str], list[list[tuple[str, float]]]]:
    """Both in one random order: they come document by document, and each half is to be about all documents."""
    order = list(range(len(questions)))
    random.Random(0).shuffle(order)
    return [questions[row] for row in order], [relevances[row] for row in order]


def learn(db: DeepLake, questions: Sequence[str], relevances: Sequence[list[tuple[str, float]]]) -> None:
    """2. Train on questions whose answers are known, and look how it went."""
    deep_memory = db.vectorstore.deep_memory
    job_id = deep_memory.train(queries=questions, relevance=relevances)
    deep_memory.wait(job_id)
    deep_memory.status(job_id)


def compare_contexts(
    db: DeepLake, questions: list[str], relevances: list[list[tuple[str, float]]], llm: ChatOpenAI
) -> None:
    """3.2 How much of what an answer needs is in the contexts: ragas, with a judge and by ids."""
    docs = db.vectorstore.dataset.text.data(fetch_chunks=True, aslist=True)["value"]
    ids = db.vectorstore.dataset.id.data(fetch_chunks=True, aslist=True)["value"]
    ground_truths = convert_relevance_to_ground_truth(dict(zip(ids, docs, strict=True)), relevances)
    for deep_memory in [False, True]:
        print("\nEvaluating with deep_memory =", deep_memory)
        print("===================================")
        retriever = db.as_retriever()
        retriever.search_kwargs["deep_memory"] = deep_memory
        retriever.search_kwargs["k"] = 4
        recall = context_recall(retriever, questions, relevances, k=4, llm=llm, ground_truths=ground_truths)
        print(f"context_recall_score = {recall.llm_judged}")
        print(f"id_based_context_recall = {recall.id_based}")
        if recall.unjudged:
            print(f"({len(recall.unjudged)} of {len(questions)} could not be judged)")
        print("===================================")


def compare_answers(db: DeepLake, query: str, llm: ChatOpenAI) -> None:
    """3.3 One question, answered with what was learned and without."""
    print(f"Question: {query}")
    for deep_memory in [True, False]:
        retriever = db.as_retriever()
        retriever.search_kwargs["deep_memory"] = deep_memory
        retriever.search_kwargs["k"] = 10
        qa = RetrievalQA.from_chain_type(llm=llm, chain_type="stuff", retriever=retriever)
        print(f"{'With' if deep_memory else 'Without'} Deep Memory: {qa.invoke({'query': query})['result']}")
    retriever.search_kwargs["deep_memory"] = True
    print(f"\nThe same with its sources:\n{answer(query, retriever, llm=llm, k=10, max_context_tokens=12_000)}")


def run(around: Surroundings, pages: int, n: int) -> None:
    """The tutorial, from the first step to the last."""
    print("\n1. Dataset creation\n")
    db = DeepLake(
        dataset_path=around.path,
        embedding="local",
        runtime={"tensor_db": True} if around.path.startswith("hub://") else None,
        token=around.token,
        overwrite=True,
        read_only=False,
    )
    docs_new = read_pages(around, pages)
    ids = db.add_documents(docs_new, ids=[f"chunk-{number}" for number in range(len(docs_new))])
    print(f"{len(ids)} documents in {around.path}")

    print("\n2. Generating synthetic queries and training Deep Memory\n")
    docs = db.vectorstore.dataset.text.data(fetch_chunks=True, aslist=True)["value"]
    ids = db.vectorstore.dataset.id.data(fetch_chunks=True, aslist=True)["value"]
    llm = ChatOpenAI(model=around.model, temperature=0)
    questions, relevances = shuffled(*generate_queries(docs, ids, n=n, llm=llm))
    half = len(questions) // 2
    train_questions, train_relevances = questions[:half], relevances[:half]
    test_questions, test_relevances = questions[half:], relevances[half:]
    print(f"{len(questions)} questions about {len(docs)} documents, {half} of them to train, such as:")
    print("\n".join(f"  {question}" for question in train_questions[:4]))
    learn(db, train_questions, train_relevances)

    print("\n3. Evaluating Deep Memory\n\n3.1 Recall\n")
    recall = db.vectorstore.deep_memory.evaluate(queries=test_questions, relevance=test_relevances)

    print("\n3.2 Context recall (ragas)")
    compare_contexts(db, test_questions, test_relevances, llm)

    print("\n3.3 Inference\n")
    gained, lost = recall.gained(len(test_questions)), recall.lost(len(test_questions))
    print(f"Of {len(test_questions)} test questions {len(gained)} have their answer higher, {len(lost)} lower.")
    print("The one that gained most:" if gained else "The first one:")
    compare_answers(db, gained[0].query if gained else test_questions[0], llm)

    print("\n3.4 Cost saving\n")
    print(saving(recall.saving))


def main() -> None:
    """Read the options, see to what is needed, and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", help="the dataset: hub://org/name, or a folder; what it holds is removed")
    parser.add_argument("--site", help="the page whose links are read; ends with a slash")
    parser.add_argument("--pages", type=int, default=8, help="pages to read, at most")
    parser.add_argument("--queries", type=int, default=200, help="questions to generate; half are held out")
    parser.add_argument("--llm", help="the language model's name at OPENAI_BASE_URL")
    options = parser.parse_args()
    with surroundings(options.path, options.site, options.llm) as around:
        run(around, options.pages, options.queries)


if __name__ == "__main__":
    main()
