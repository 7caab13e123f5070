"""Jobs are seen as they are: across processes, through kill -9, and in races between their end and a cancel."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from deepmemory.errors import Cancelled, InputError, JobError
from deepmemory.jobs import (
    CANCELLED,
    COMPLETED,
    FAILED,
    PENDING,
    TRAINING,
    DurableJobStore,
    DurableRun,
    EndedElsewhere,
    HandedOver,
    Job,
    JobRun,
    JobStore,
    start,
)
from deepmemory.state import FolderState, MemoryState

WORKER = """
import sys, time
from deepmemory.jobs import JobStore, start
from deepmemory.state import FolderState

jobs = JobStore(FolderState(sys.argv[1]))
job = jobs.create({"n_queries": 3})

def work(run):
    step = run.stage("fitting", 0.0, 1.0)
    for done in range(int(sys.argv[2])):
        step(done, int(sys.argv[2]))
        time.sleep(0.02)
    run.commit()
    return {"layer": "v1"}

start(jobs, job, work)
print(job.id, flush=True)
"""


@pytest.fixture
def jobs() -> JobStore:
    return JobStore(MemoryState())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def finished(jobs: JobStore, job_id: str) -> Job:
    until(lambda: jobs.get(job_id).is_finished)
    return jobs.get(job_id)


def spawn(folder, steps: int, then: str = "") -> tuple[subprocess.Popen, str]:
    """A process that runs a job of that many steps, and its job's id."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER + then, str(folder), str(steps)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, process.stdout.readline().strip()


def short_work(run: JobRun) -> dict:
    run.stage("fitting", 0.0, 1.0)(1, 2)
    run.commit()
    return {"layer": "v1", "trained": {"recall@10": 0.79}, "baseline": {"recall@10": 0.45}}


def endless_work(run: JobRun) -> dict:
    step = run.stage("fitting", 0.0, 1.0)
    while True:
        step(1, 4)
        time.sleep(0.01)


def test_a_job_goes_from_pending_to_completed_with_its_results(jobs):
    job = jobs.create({"n_queries": 3})
    assert (job.state, len(job.id), set(job.id) <= set("0123456789abcdef")) == (PENDING, 24, True)
    assert jobs.get(job.id).recall is None
    start(jobs, job, short_work)
    job = finished(jobs, job.id)
    assert (job.state, job.progress, job.error) == (COMPLETED, 1.0, None)
    assert job.details == {"n_queries": 3}
    assert job.results["layer"] == "v1"
    assert (job.recall, job.baseline_recall) == (0.79, 0.45)
    assert job.created <= job.started <= job.finished


def test_progress_of_the_stages_is_one_line_from_zero_to_one(jobs):
    seen: list[tuple[int, int]] = []
    at_half = threading.Event()
    go_on = threading.Event()

    def work(run: JobRun) -> dict:
        run.stage("embedding", 0.0, 0.5)(10, 10)
        run.stage("fitting", 0.5, 1.0)
        at_half.set()
        go_on.wait()
        run.commit()
        return {}

    job = jobs.create({})
    start(jobs, job, work, progress=lambda done, total: seen.append((done, total)))
    at_half.wait()
    look = jobs.get(job.id)
    go_on.set()
    assert (look.state, look.stage, look.progress) == (TRAINING, "fitting", 0.5)
    assert look.eta_seconds >= 0
    assert finished(jobs, job.id).state == COMPLETED
    assert seen == [(0, 1000), (500, 1000), (500, 1000)]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("bad\nluck"), "ValueError: bad luck"),
        (InputError(["one", "two"]), "2 problems in the input; nothing was changed: - one - two"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_job_that_raises_is_failed_with_the_reason_in_one_line(jobs, error, said, caplog):
    def work(run: JobRun) -> dict:
        raise error

    job = jobs.create({})
    start(jobs, job, work)
    job = finished(jobs, job.id)
    assert (job.state, job.error, job.results) == (FAILED, said, None)


def test_a_cancelled_job_stops_and_is_seen_as_cancelled_at_once(jobs):
    stopped = threading.Event()

    def work(run: JobRun) -> dict:
        try:
            return endless_work(run)
        finally:
            stopped.set()

    job = jobs.create({})
    start(jobs, job, work)
    until(lambda: jobs.get(job.id).state == TRAINING)
    assert jobs.cancel(job.id)
    assert jobs.get(job.id).state == CANCELLED
    assert stopped.wait(60)
    assert not jobs.cancel(job.id)
    until(lambda: jobs.get(job.id).finished is not None)
    assert jobs.get(job.id).state == CANCELLED


def test_a_caller_cancels_through_its_progress_callback(jobs):
    def stop(done: int, total: int) -> None:
        raise Cancelled("enough")

    job = jobs.create({})
    start(jobs, job, endless_work, progress=stop)
    assert finished(jobs, job.id).error == "enough"
    assert jobs.get(job.id).state == CANCELLED


def test_jobs_of_one_process_take_turns_and_one_that_waits_can_be_cancelled(jobs):
    first, second, third = (jobs.create({"n": n}) for n in range(3))
    start(jobs, first, endless_work)
    until(lambda: jobs.get(first.id).state == TRAINING)
    start(jobs, second, short_work)
    start(jobs, third, short_work)
    assert jobs.get(second.id).state == jobs.get(third.id).state == PENDING
    assert jobs.cancel(second.id)
    assert jobs.cancel(first.id)
    assert finished(jobs, third.id).state == COMPLETED
    until(lambda: jobs.get(second.id).finished is not None)
    assert [job.state for job in jobs.list()] == [CANCELLED, CANCELLED, COMPLETED]
    assert jobs.get(second.id).started is None


def test_a_cancel_that_meets_the_end_has_one_outcome_that_all_agree_on(tmp_path):
    """Whatever the interleaving: `cancel` says True exactly when the work did not commit."""
    jobs = JobStore(FolderState(tmp_path))
    outcomes = set()
    for delay in [0, 0.03, 0.035, 0.04, 0.045, 0.1] * 3:
        committed: list[bool] = []

        def work(run: JobRun, committed: list[bool] = committed) -> dict:
            time.sleep(0.04)
            run.commit()
            committed.append(True)
            return {}

        job = jobs.create({})
        start(jobs, job, work)
        until(lambda job=job: jobs.get(job.id).state != PENDING)
        time.sleep(delay)
        cancelled = jobs.cancel(job.id)
        until(lambda job=job: jobs.get(job.id).finished is not None)
        assert jobs.get(job.id).state == (CANCELLED if cancelled else COMPLETED)
        assert bool(committed) is not cancelled
        outcomes.add(cancelled)
    assert outcomes == {True, False}


def test_of_many_cancels_at_once_one_is_told_that_it_did_it(jobs):
    job = jobs.create({})
    start(jobs, job, endless_work)
    begin = threading.Barrier(6)
    told: list[bool] = []

    def cancel() -> None:
        begin.wait()
        told.append(jobs.cancel(job.id))

    threads = [threading.Thread(target=cancel) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told) == [False] * 5 + [True]
    until(lambda: jobs.get(job.id).finished is not None)


def test_a_running_job_is_not_deleted_and_never_comes_back_after_it(jobs):
    job = jobs.create({})
    start(jobs, job, endless_work)
    until(lambda: jobs.get(job.id).state == TRAINING)
    with pytest.raises(JobError, match="is training and can't be deleted yet: cancel it"):
        jobs.delete(job.id)
    jobs.cancel(job.id)
    until(lambda: jobs.get(job.id).finished is not None)
    assert jobs.delete(job.id)
    assert jobs.list() == ()
    with pytest.raises(JobError, match=f"there is no job '{job.id}'"):
        jobs.get(job.id)


@pytest.mark.parametrize("unknown", ["0" * 24, "../../etc/passwd", "", 7, None])
def test_an_unknown_job_is_named(jobs, unknown):
    for act in (jobs.get, jobs.cancel, jobs.delete):
        with pytest.raises(JobError, match="there is no job"):
            act(unknown)


def test_a_job_killed_in_its_process_is_failed_and_can_be_deleted(tmp_path):
    jobs = JobStore(FolderState(tmp_path))
    process, job_id = spawn(tmp_path, 100_000)
    until(lambda: jobs.get(job_id).state == TRAINING)
    process.kill()
    # Nobody has waited for it: it is a zombie, whose number still exists.
    until(lambda: jobs.get(job_id).state == FAILED)
    process.communicate()
    job = jobs.get(job_id)
    assert job.state == FAILED
    assert f"the process that ran it (number {process.pid} on " in job.error
    assert jobs.list() == (job,)
    assert not jobs.cancel(job_id)
    assert jobs.delete(job_id)


def test_a_job_is_cancelled_from_another_process(tmp_path):
    jobs = JobStore(FolderState(tmp_path))
    process, job_id = spawn(tmp_path, 100_000)
    until(lambda: jobs.get(job_id).state == TRAINING)
    with pytest.raises(JobError, match="can't be deleted yet"):
        jobs.delete(job_id)
    assert jobs.cancel(job_id)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert jobs.get(job_id).error == "cancelled on request"


def test_a_program_that_comes_to_its_end_waits_for_its_job(tmp_path):
    process, job_id = spawn(tmp_path, 20)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert JobStore(FolderState(tmp_path)).get(job_id).results == {"layer": "v1"}


def test_a_job_may_use_a_thread_pool_while_its_program_waits_at_its_end(tmp_path):
    script = WORKER.replace(
        "    run.commit()\n",
        "    from concurrent.futures import ThreadPoolExecutor\n"
        "    with ThreadPoolExecutor() as pool:\n"
        "        assert list(pool.map(abs, [-1])) == [1]\n"
        "    run.commit()\n",
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), "10"], capture_output=True, text=True, check=True, timeout=60
    )
    job = JobStore(FolderState(tmp_path)).get(done.stdout.strip())
    assert (job.state, job.error) == (COMPLETED, None)


@pytest.mark.parametrize("busy", [True, False], ids=["while it works", "while it waits at its end"])
def test_ctrl_c_cancels_the_job_and_ends_the_program(tmp_path, busy):
    jobs = JobStore(FolderState(tmp_path))
    process, job_id = spawn(tmp_path, 100_000, then="time.sleep(600)\n" if busy else "")
    until(lambda: jobs.get(job_id).state == TRAINING)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    job = jobs.get(job_id)
    assert (job.state, job.error) == (CANCELLED, "the program that ran it was interrupted")


def test_a_job_of_another_machine_is_running_while_its_heart_beats(jobs):
    job = jobs.create({})
    elsewhere = replace(job, state=TRAINING, owner=replace(job.owner, machine="another", host="far-away", pid=1))
    jobs.write(replace(elsewhere, heartbeat=time.time() - 30))
    assert jobs.get(job.id).state == TRAINING
    with pytest.raises(JobError, match="is training"):
        jobs.delete(job.id)
    jobs.write(replace(elsewhere, heartbeat=time.time() - 600))
    assert jobs.get(job.id).state == FAILED
    assert "on far-away" in jobs.get(job.id).error


def test_a_process_number_that_was_used_again_is_another_process(jobs):
    job = jobs.create({})
    jobs.write(replace(job, owner=replace(job.owner, started="1")))
    assert jobs.get(job.id).state == FAILED


def test_a_job_made_and_never_started_in_this_process_is_not_shown_as_running(jobs):
    assert jobs.get(jobs.create({}).id).state == FAILED


def test_a_damaged_record_is_shown_as_failed_and_can_be_deleted():
    state = MemoryState()
    jobs = JobStore(state)
    job = jobs.create({})
    state.write(f"jobs/{job.id}.json", b'{"id": ')
    assert jobs.get(job.id).state == FAILED
    assert jobs.list()[0].error == "its record is damaged; delete the job"
    assert jobs.delete(job.id)


def test_a_record_of_a_later_version_with_more_keys_is_read(jobs):
    state = MemoryState()
    jobs = JobStore(state)
    job = jobs.create({})
    start(jobs, job, short_work)
    finished(jobs, job.id)
    blob = f"jobs/{job.id}.json"
    state.write(blob, state.read(blob).replace(b'{"id"', b'{"colour": "blue", "id"'))
    assert jobs.get(job.id).state == COMPLETED


@pytest.mark.parametrize("end", ["completes", "fails", "is deleted"])
def test_a_durable_job_that_another_has_ended_is_not_written_over(end):
    jobs, stopping = DurableJobStore(MemoryState()), threading.Event()
    slow = DurableRun(jobs, jobs.create({}), stopping)
    slow.begin()
    other = DurableRun(jobs, jobs.get(slow.job_id), stopping)
    if end == "completes":
        other.complete({"layer": "v1"})
    else:
        other.fail(JobError("no"))
    if end == "is deleted":
        jobs.delete(slow.job_id)
    record = jobs.find(slow.job_id)
    with pytest.raises(EndedElsewhere):
        slow.stage("fitting", 0.5, 1.0)
    with pytest.raises(EndedElsewhere):
        slow.fail(JobError("late"))
    with pytest.raises(EndedElsewhere):
        slow.complete({"layer": "v2"})
    assert jobs.find(slow.job_id) == record
    assert jobs.has_ended(slow.job_id)


def test_how_a_durable_job_ended_stays_when_a_process_wakes_up_in_the_middle_of_a_write():
    state, stopping = Halting(), threading.Event()
    jobs = DurableJobStore(state)
    slow = DurableRun(jobs, jobs.create({}), stopping)
    slow.begin()
    frozen = threading.Thread(target=slow.stage, args=("fitting", 0.5, 1.0))
    state.halted.clear()
    frozen.start()
    assert state.reached.wait(30)
    state.passes = True
    other = DurableRun(jobs, jobs.get(slow.job_id), stopping)
    other.complete({"layer": "v1"})
    ended = jobs.get(slow.job_id)
    state.halted.set()
    frozen.join()
    assert ended.state == COMPLETED
    assert jobs.get(slow.job_id) == ended
    assert jobs.list() == (ended,)
    assert jobs.delete(slow.job_id)
    assert jobs.list() == ()
    assert not state.list("jobs")


class Halting(MemoryState):
    """Blobs whose writer is frozen just before it writes."""

    def __init__(self) -> None:
        super().__init__()
        self.halted, self.reached, self.passes = threading.Event(), threading.Event(), False
        self.halted.set()

    def write(self, name: str, data: bytes) -> None:
        if not self.halted.is_set() and not self.passes:
            self.reached.set()
            assert self.halted.wait(30)
        super().write(name, data)


def test_a_durable_job_is_handed_over_when_its_process_ends_or_is_told_to():
    jobs, stopping = DurableJobStore(MemoryState()), threading.Event()
    for leave in (lambda run: run.hand_over(), lambda _: stopping.set()):
        run = DurableRun(jobs, jobs.create({}), stopping)
        run.begin()
        leave(run)
        with pytest.raises(HandedOver):
            run.stage("fitting", 0.0, 1.0)
        assert jobs.get(run.job_id).state == TRAINING
