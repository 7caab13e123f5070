"""An ingestion that is killed, interrupted or fails in the middle, in processes of their own."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from site_server import Reply, Site, page, quick
from store_for_ingest import Store

from deepmemory.errors import EmbedderError
from deepmemory.ingest import IngestOptions, IngestReport, ingest

HERE = Path(__file__).parent
SCRIPT = HERE / "ingest_and_die.py"


def version(number: int, pages: range) -> dict[str, str]:
    """A site of which all pages differ from version to version in every second section, and some come and go."""
    site = {"/": page("start", *(f"/{n}" for n in pages), text="Start. " * 40)}
    for n in pages:
        sections = "".join(
            f"<h2 id=s{k}>Section {k}</h2><p>{f'Page {n}, section {k}, version {number if k % 2 else 0}. ' * 10}</p>"
            for k in range(60)
        )
        site[f"/{n}"] = f"<main><h1>Page {n}</h1>{sections}</main>"
    return site


def start(url: str, path: Path, step: str = "never", count: int = 1) -> "subprocess.Popen[str]":
    command = [sys.executable, str(SCRIPT), url, str(path), step, str(count)]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def into(store: Store, site: Site) -> IngestReport:
    return ingest(f"{site.url}/", store, options=IngestOptions(crawl=quick(), name="site"))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the first version of the site."""
    path = tmp_path_factory.mktemp("filled") / "store"
    with Site() as site, Store(path) as store:
        site.pages = dict(version(1, range(0, 12)))
        into(store, site)
    return path


@pytest.fixture(scope="module")
def third() -> dict[str, tuple[str, dict[str, object]]]:
    """What a first run makes of the third version, but for the address of the server."""
    with Site() as site:
        site.pages = dict(version(3, range(2, 13)))
        store = Store()
        into(store, site)
        return without_host(store)


def without_host(store: Store) -> dict[str, tuple[str, dict[str, object]]]:
    return {id: (text, {**metadata, "url": metadata["page"]}) for id, (text, metadata) in store.content().items()}


@pytest.mark.parametrize(
    ("step", "count"),
    [
        ("after note", 1),
        ("after add", 1),
        ("before add", 2),
        ("after delete", 1),
        ("before note", 2),
        ("before note", 3),
    ],
)
def test_after_a_kill_the_next_run_leaves_what_a_first_run_would(
    site: Site,
    tmp_path: Path,
    filled: Path,
    third: dict[str, tuple[str, dict[str, object]]],
    step: str,
    count: int,
) -> None:
    path = shutil.copytree(filled, tmp_path / "store")
    site.pages = dict(version(2, range(4, 15)))
    with start(f"{site.url}/", path, step, count) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, errors

    # The site has changed once more: what the dead run stored is nothing that a page says now.
    site.pages = dict(version(3, range(2, 13)))
    with Store(path) as store:
        into(store, site)
        assert without_host(store) == third
        store.embedded()
        assert not into(store, site).changed
        assert store.embedded() == []


def test_an_interrupt_ends_a_run_at_once_and_the_next_goes_on(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "store"
    site.pages = {**version(1, range(3)), "/1": Reply("never", delay=120)}
    with start(f"{site.url}/", path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("page 2"):  # the third waits for a server that doesn't answer
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode in (-signal.SIGINT, 130), errors
    assert "KeyboardInterrupt" in errors

    site.pages = dict(version(1, range(3)))
    fresh = Store()
    into(fresh, site)
    with Store(path) as store:
        into(store, site)
        assert store.content() == fresh.content()


def test_an_embedder_that_fails_leaves_a_store_that_the_next_run_completes(site: Site) -> None:
    site.pages = dict(version(1, range(8)))
    store, fresh = Store(), Store()
    into(fresh, site)
    working = store.counting.embed_documents

    def failing(texts: list[str]) -> list[list[float]]:
        if len(store.counting.texts) > 200:
            raise EmbedderError("the endpoint answered 500")
        return working(texts)

    store.counting.embed_documents = failing  # type: ignore[method-assign, assignment]
    with pytest.raises(EmbedderError, match="answered 500"):
        into(store, site)
    store.counting.embed_documents = working  # type: ignore[method-assign]
    into(store, site)
    assert store.content() == fresh.content()
