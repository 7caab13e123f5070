"""ragas' two context recalls, with our language models. Importing this module imports ragas, which takes seconds."""

import asyncio
import json
import math
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Any

from deepmemory.errors import LLMError
from deepmemory.llm import ChatModel, Message, UnusableAnswerError, Usage

# Nothing of what is measured here is anyone else's business; who wants it told sets the variable to "false".
os.environ.setdefault("RAGAS_DO_NOT_TRACK", "true")

with warnings.catch_warnings():
    # Its successor in ragas.metrics.collections takes OpenAI's client alone, and does not have the id-based one at all.
    warnings.simplefilter("ignore", DeprecationWarning)
    from langchain_core.outputs import Generation, LLMResult
    from ragas import SingleTurnSample, _analytics
    from ragas.exceptions import RagasOutputParserException
    from ragas.llms.base import BaseRagasLLM
    from ragas.metrics import IDBasedContextRecall, LLMContextRecall
    from ragas.run_config import RunConfig

if TYPE_CHECKING:
    from langchain_core.prompt_values import PromptValue

__all__ = ["Judged", "id_recalls", "judged_recalls"]


def _stay_unknown() -> None:
    """Give ragas a nameless user: it would put an id into the user's home before it asks whether it may track them."""
    analytics: Any = _analytics
    where, analytics.user_data_dir = analytics.user_data_dir, lambda **_: os.devnull
    try:
        analytics.get_userid()  # keeps what it finds for good
    finally:
        analytics.user_data_dir = where


if _analytics.do_not_track():
    _stay_unknown()

Judged = tuple[float | None, str, Usage]
"""A score, or None with the reason why there is none; and what it cost."""


class _RagasLLM(BaseRagasLLM):  # type: ignore[misc, unused-ignore]
    """One of our models as ragas asks it; counts what it costs."""

    def __init__(self, model: ChatModel, stop: Event) -> None:
        # Our models try again by themselves, so ragas is not to.
        super().__init__(run_config=RunConfig(max_retries=1, max_wait=0))
        self.usage = Usage()
        self._model = model
        self._stop = stop

    def generate_text(
        self,
        prompt: "PromptValue",
        n: int = 1,
        temperature: float | None = 0.0,  # noqa: ARG002  a judge is to be steady
        stop: list[str] | None = None,  # noqa: ARG002
        callbacks: Any = None,  # noqa: ARG002
    ) -> LLMResult:
        """Let the model answer n times."""
        answers = []
        for _ in range(n):
            completion = self._model.complete([Message("user", prompt.to_string())], temperature=0.0, stop=self._stop)
            self.usage += completion.usage
            finish = {"finish_reason": completion.finish_reason}
            answers.append(Generation(text=completion.text, generation_info=finish))
        return LLMResult(generations=[answers])

    async def agenerate_text(
        self,
        prompt: "PromptValue",
        n: int = 1,
        temperature: float | None = 0.0,
        stop: list[str] | None = None,
        callbacks: Any = None,
    ) -> LLMResult:
        """Let the model answer in this thread: each judgement has one of its own."""
        return self.generate_text(prompt, n, temperature, stop, callbacks)

    def is_finished(self, response: LLMResult) -> bool:
        """Whether no answer was cut off."""
        finishes = ((each.generation_info or {}).get("finish_reason") for row in response.generations for each in row)
        return all(finish != "length" for finish in finishes)


def id_recalls(retrieved: Sequence[Sequence[str]], relevant: Sequence[Sequence[str]]) -> list[float]:
    """For each query, the part of its relevant ids that was retrieved (ragas' ``IDBasedContextRecall``)."""
    metric = IDBasedContextRecall()
    samples = [
        SingleTurnSample(retrieved_context_ids=list(found), reference_context_ids=list(wanted))
        for found, wanted in zip(retrieved, relevant, strict=True)
    ]

    async def score() -> list[float]:
        return [float(await metric.single_turn_ascore(sample)) for sample in samples]

    # A notebook has an event loop in its own thread, so this one is run in another.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, score()).result()


def judged_recalls(
    model: ChatModel,
    questions: Sequence[str],
    contexts: Sequence[Sequence[str]],
    references: Sequence[str],
    *,
    concurrency: int,
) -> list[Judged]:
    """For each query, the part of its reference's statements that the contexts support, as a model judges it.

    This is ragas' ``LLMContextRecall``. Where no context was retrieved it is 0, and nobody is asked.

    Raises:
        LLMError: the endpoint can't be reached, or refused.
    """
    stop = Event()
    with ThreadPoolExecutor(concurrency) as threads:
        jobs = [
            threads.submit(_judge, model, question, list(found), reference, stop)
            for question, found, reference in zip(questions, contexts, references, strict=True)
        ]
        try:
            return [job.result() for job in jobs]
        except BaseException:
            stop.set()
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _judge(model: ChatModel, question: str, contexts: list[str], reference: str, stop: Event) -> Judged:
    if not contexts:
        return 0.0, "", Usage()
    asked = _RagasLLM(model, stop)
    sample = SingleTurnSample(user_input=question, retrieved_contexts=contexts, reference=reference)
    try:
        score = asyncio.run(LLMContextRecall(llm=asked).single_turn_ascore(sample))
    except UnusableAnswerError as error:
        return None, str(error), asked.usage + error.usage
    except LLMError:
        stop.set()
        raise
    except (RagasOutputParserException, json.JSONDecodeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        return None, f"{model.name} gave no judgement that ragas can read ({said})", asked.usage
    except Exception as error:  # ragas lets through what its parts raise: name it, and whose it is
        raise LLMError(f"ragas failed to judge {question!r}: {type(error).__name__}: {error}") from error
    if math.isnan(score):
        return None, f"{model.name} named no statement to judge", asked.usage
    return float(score), "", asked.usage
