"""Signals taken by this very process, and by children that inherit its handlers."""

import multiprocessing
import signal
import threading
import time

import pytest

from scaling.grid.stopping import Stopping


def send(number: signal.Signals) -> None:
    signal.raise_signal(number)  # to this thread: another one would take a signal that this one blocks


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_scheduler_asks_and_never_insists(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Stopping() as stopping:
        assert stopping.asked is None
        for _ in range(3):
            send(number)
            assert (stopping.asked, stopping.insisted) == (number.name, False)
    assert signal.getsignal(number) is before


def test_the_second_ctrl_c_insists_and_afterwards_it_is_python_s_again() -> None:
    with Stopping() as stopping:
        send(signal.SIGINT)
        assert (stopping.asked, stopping.insisted) == ("SIGINT", False)
        send(signal.SIGINT)
        assert stopping.insisted
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_ctrl_c_after_a_scheduler_s_signal_only_asks() -> None:
    with Stopping() as stopping:
        send(signal.SIGTERM)
        send(signal.SIGINT)
        assert not stopping.insisted
        send(signal.SIGINT)
        assert stopping.insisted


def test_a_child_that_inherits_the_handlers_still_ends() -> None:
    """As loaders of data must."""
    context = multiprocessing.get_context("fork")
    begun = context.Event()

    def load() -> None:
        begun.set()
        time.sleep(60)

    with Stopping() as stopping:
        child = context.Process(target=load)
        child.start()
        begun.wait()
        child.terminate()
        child.join(30)
        assert child.exitcode == -signal.SIGTERM
        assert stopping.asked is None


def test_a_signal_that_came_too_early_is_not_lost() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    send(signal.SIGUSR1)
    with Stopping() as stopping:
        assert stopping.asked == "SIGUSR1"


def test_outside_of_the_main_thread_nothing_is_listened_to() -> None:
    seen = list[str | None]()

    def listen() -> None:
        with Stopping() as stopping:
            seen.append(stopping.asked)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [None]
