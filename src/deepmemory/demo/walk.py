"""The demo, step by step: read the pages, label the questions, train, measure, compare."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deepmemory.data import LabelledQueries
from deepmemory.demo.answers import Answers, Labels, label
from deepmemory.demo.pages import MODULES, module_of, page_of
from deepmemory.demo.questions import load_questions
from deepmemory.demo.server import documentation_server
from deepmemory.demo.showcase import Showcase, choose
from deepmemory.errors import InputError
from deepmemory.evaluation import Evaluation
from deepmemory.formats import write_labelled
from deepmemory.ingest import CrawlOptions, IngestOptions, IngestReport, ingest
from deepmemory.jobs import COMPLETED, Job
from deepmemory.memory.history import data_hash
from deepmemory.progress import Progress
from deepmemory.report import save_report
from deepmemory.store import VectorStore

__all__ = ["Demo", "Training"]

_SOURCE = "pydoc"


@dataclass(frozen=True, slots=True)
class Training:
    """What a training found.

    Attributes:
        job: completed.
        layer: name of the saved layer.
        is_new: False where an earlier run had trained on the same questions and pages.
    """

    job: Job
    layer: str
    is_new: bool


class Demo:
    """One walk through the demo, in a folder that keeps what it makes.

    The steps are `read`, `label`, `train`, `evaluate` and `compare`, in this order. Each may be interrupted; the next
    run goes on from what is there.

    Attributes:
        folder: with the store, the labelled questions and the report in it.
        store: what the steps work on.
    """

    def __init__(
        self, folder: str | Path, *, modules: Sequence[str] = MODULES, seed: int = 0, start_anew: bool = False
    ) -> None:
        """Open the demo in a folder, or make it there.

        Args:
            folder: made where it isn't there.
            modules: those of `MODULES` whose pages are read; questions about others are left out.
            seed: of training and measuring.
            start_anew: remove what an earlier run left in the store.

        Raises:
            InputError: a module is none of those that the demo knows.
            StoreError: the store can't be made, or opened.
        """
        if unknown := sorted(set(modules) - set(MODULES)):
            raise InputError(f"the demo has no questions about {', '.join(unknown)}")
        self.folder = Path(folder)
        self._modules = tuple(modules)
        self._seed = seed
        self._is_changed = start_anew
        self.store = VectorStore(self.files["store"], embedder="local", overwrite=start_anew)

    @property
    def is_new(self) -> bool:
        """Whether no earlier run has left anything in the store."""
        return len(self.store) == 0

    @property
    def files(self) -> dict[str, str]:
        """Paths of the ``store``, the ``report``, and the questions with their answers (``train`` and ``test``)."""
        names = {"store": "store", "report": "report.html", "train": "train.jsonl", "test": "test.jsonl"}
        return {what: str(self.folder / name) for what, name in names.items()}

    def read(self, *, on_page: Progress | None = None, on_chunk: Progress | None = None) -> IngestReport:
        """Crawl the pages over HTTP from Python's own documentation server, and store them."""
        # Links are not followed: they lead to pages about the inside of modules, which say the same again, and to
        # modules that do something when they are imported.
        crawl = CrawlOptions(max_depth=0, max_pages=len(self._modules), allow_private=True, delay=0.0)
        with documentation_server() as address:
            report = ingest(
                [address.rstrip("/") + page_of(module) for module in self._modules],
                self.store,
                options=IngestOptions(crawl=crawl, name=_SOURCE),
                on_page=on_page,
                on_chunk=on_chunk,
            )
        self._is_changed |= report.changed
        return report

    def label(self) -> Labels:
        """Find the chunks that answer the questions, and write both down for the commands that take such files."""
        asked = [
            question
            for question in load_questions()
            if all(module_of(answer) in self._modules for answer in question.answers)
        ]
        labels = label(asked, Answers(self.store.documents()))
        write_labelled(self.files["train"], labels.train)
        write_labelled(self.files["test"], labels.test)
        return labels

    def train(self, labels: Labels, *, progress: Progress | None = None) -> Training:
        """Train on the training questions, unless an earlier run did on the same."""
        memory = self.store.deep_memory
        done = None if self._is_changed else self._trained_before(labels.train)
        job_id = done or memory.train(
            labels.train.queries, labels.train.relevance, seed=self._seed, wait=True, progress=progress
        )
        job = memory.status(job_id, verbose=False)
        assert job.results is not None  # it is completed
        return Training(job, str(job.results["layer"]), is_new=done is None)

    def evaluate(self, labels: Labels, training: Training, *, progress: Progress | None = None) -> Evaluation:
        """Search for the held-out questions without and with the layer, and write the report."""
        evaluation = self.store.deep_memory.evaluate(
            labels.test.relevance,
            labels.test.queries,
            model=training.layer,
            seed=self._seed,
            verbose=False,
            progress=progress,
        )
        details = {
            "Store": self.store.path,
            "Embedder": str(self.store.summary()["embedder"]),
            "Layer": training.layer,
            "Questions": f"{len(labels.train):,} to train, {len(labels.test):,} held out",
        }
        save_report(evaluation, self.files["report"], title="Deep Memory on Python's documentation", details=details)
        return evaluation

    def compare(self, evaluation: Evaluation) -> list[Showcase]:
        """A few held-out questions with what is found for them without and with the layer."""
        return choose(evaluation, load_questions(), self.store.get)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def _trained_before(self, labelled: LabelledQueries) -> str | None:
        """The newest completed job whose layer was trained on the same questions and answers."""
        wanted = data_hash(labelled.merged())
        memory = self.store.deep_memory
        saved = set(memory.models())
        for job in reversed(memory.list_jobs(verbose=False)):
            layer = str((job.results or {}).get("layer"))
            if job.state == COMPLETED and layer in saved and memory.model_info(layer).data_hash == wanted:
                return job.id
        return None
