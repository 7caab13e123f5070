"""Which engine is meant, and what the one in this process does."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from works import Doubled, Refusing, numbers, values

from deepmemory import EngineError, InputError, MissingExtraError, VectorStore
from deepmemory.executors import InProcessExecutor, open_executor
from deepmemory.executors.ray import RayExecutor


def test_the_engine_is_in_process_unless_somebody_says_otherwise(monkeypatch):
    monkeypatch.delenv("DEEPMEMORY_ENGINE", raising=False)
    assert open_executor().name == open_executor("in-process").name == "in-process"
    monkeypatch.setenv("DEEPMEMORY_ENGINE", "ray:3")
    assert open_executor().name == "ray"
    assert open_executor("in-process").name == "in-process"
    given = InProcessExecutor()
    assert open_executor(given) is given


@pytest.mark.parametrize("engine", ["dask", "ray:0", "ray:two", "", "RAY"])
def test_another_engine_is_refused_with_those_that_there_are(engine):
    with pytest.raises(InputError, match="'in-process', 'ray', or 'ray:4'"):
        open_executor(engine)


def test_a_wrong_variable_is_named(monkeypatch):
    monkeypatch.setenv("DEEPMEMORY_ENGINE", "spark")
    with pytest.raises(InputError, match="found 'spark' in DEEPMEMORY_ENGINE"):
        VectorStore("memory://", embedder=None)


def test_without_ray_its_command_is_named():
    code = (
        "import importlib.util, sys\n"
        "sys.modules['ray'] = None\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'ray' else find(name, *rest)\n"
        "from deepmemory import VectorStore\n"
        "VectorStore('memory://', embedder=None, engine='ray')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("deepmemory.errors.MissingExtraError: the engine 'ray' needs")
    assert last.endswith("pip install 'deepmemory[ray]'")


def test_errors_that_workers_send_come_out_as_they_went_in():
    import pickle

    error = pickle.loads(pickle.dumps(MissingExtraError("the engine 'ray'", "ray")))
    assert (str(error), error.extra) == (str(MissingExtraError("the engine 'ray'", "ray")), "ray")
    wrong = pickle.loads(pickle.dumps(InputError(["one", "two"])))
    assert wrong.problems == ("one", "two")


def test_a_hub_takes_no_engine():
    with pytest.raises(InputError, match="does bulk work on its own side"):
        VectorStore("hub://acme/docs", engine="ray")


def test_no_cluster_at_the_address_is_said_in_a_sentence(tmp_path):
    code = (
        "from works import Doubled, numbers\n"
        "from pathlib import Path\n"
        "from deepmemory.executors.ray import RayExecutor\n"
        "list(RayExecutor(address='ray://127.0.0.1:1').map(Doubled(Path('.')), numbers(1)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    assert "RAY_ADDRESS is 'ray://127.0.0.1:1', of Ray's client, which is not supported" in done.stderr


def test_in_process_a_batch_is_read_when_the_result_before_was_taken(tmp_path, in_process):
    read = []

    def counted():
        for batch in numbers(5):
            read.append(batch)
            yield batch

    with closing(in_process.map(Doubled(tmp_path), counted())) as results:
        for number, result in enumerate(results, start=1):
            assert len(read) == number
            assert result.num_rows == 3
    assert len(list(tmp_path.glob("prepared-*"))) == 1


def test_in_process_progress_tells_of_the_batch_in_hand(tmp_path, in_process):
    told = []
    assert values(in_process.map(Doubled(tmp_path), numbers(2), progress=lambda *at: told.append(at))) == [
        0,
        2,
        4,
        6,
        8,
        10,
    ]
    assert told == [(0, 3), (0, 3)]


def test_in_process_what_the_work_raises_comes_after_the_results_before_it(in_process):
    results = in_process.map(Refusing(7), numbers(4))
    assert values([next(results), next(results)]) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(InputError, match="7 is wrong"):
        next(results)


def test_numbers_of_workers_that_make_no_sense_are_refused():
    for workers in (0, -1, True):
        with pytest.raises(InputError, match="workers must be a whole number of 1 or more"):
            RayExecutor(workers=workers)
    assert issubclass(EngineError, Exception)
