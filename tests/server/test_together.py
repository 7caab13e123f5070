"""Searches that are done together: everyone gets their own answer, whoever did the work."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from deepmemory.server.together import Together


def numbered(n, first=0):
    return list(range(first, first + n))


def test_alone_a_request_is_answered_at_once():
    together = Together()
    assert together.do("key", numbered(3), list) == [0, 1, 2]


def test_what_comes_while_the_first_is_worked_on_is_done_in_one_go():
    together, begun, go_on, sizes = Together(), threading.Event(), threading.Event(), []

    def work(questions):
        sizes.append(len(questions))
        begun.set()
        assert go_on.wait(30)
        return list(questions)

    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(together.do, "key", numbered(1, 100), work)
        assert begun.wait(30)
        others = [pool.submit(together.do, "key", numbered(2, 10 * number), work) for number in range(5)]
        elsewhere = pool.submit(together.do, "another key", numbered(1), lambda questions: ["not kept up"])
        assert elsewhere.result(30) == ["not kept up"]
        while len(together._waiting["key"]) < 6:
            pass
        go_on.set()
        assert first.result(30) == [100]
        assert [other.result(30) for other in others] == [[10 * n, 10 * n + 1] for n in range(5)]
    assert sizes == [1, 10]
    assert not together._waiting


def test_no_more_than_the_most_are_done_in_one_go_but_a_large_request_is_not_cut():
    together, sizes, begun, go_on = Together(most=4), [], threading.Event(), threading.Event()

    def work(questions):
        sizes.append(len(questions))
        begun.set()
        assert go_on.wait(30)
        return list(questions)

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(together.do, 0, numbered(1), work)]
        assert begun.wait(30)
        for size in (3, 3, 9, 1):
            asked.append(pool.submit(together.do, 0, numbered(size), work))
            while len(together._waiting[0]) < len(asked):
                pass
        go_on.set()
        assert [len(each.result(30)) for each in asked] == [1, 3, 3, 9, 1]
    assert sizes == [1, 3, 3, 9, 1]


def test_a_failure_reaches_everyone_whose_work_it_was_and_nobody_else():
    together = Together()

    def fail(questions):
        raise ValueError("the engine failed")

    with pytest.raises(ValueError, match="the engine failed"):
        together.do("key", numbered(2), fail)
    assert together.do("key", numbered(1), lambda questions: ["works again"]) == ["works again"]


def test_under_many_threads_each_gets_its_own():
    together = Together(most=8)

    def ask(number):
        asked = numbered(1 + number % 3, 1_000 * number)
        answers = together.do(number % 2, asked, list)
        return list(answers) == asked

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(800)))
    assert not together._waiting
