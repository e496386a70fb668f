"""Stop requests: at once where a stage may be given up, later where it saves first."""

import os
import signal
import threading
from pathlib import Path

import pytest

from fettle.errors import Interrupted
from fettle.recipe.recipe import Recipe
from fettle.records.journal import Journal
from fettle.records.run_directory import RunDirectory
from fettle.stages.context import Context, StopRequest


@pytest.fixture
def stop(tmp_path: Path) -> StopRequest:
    place = RunDirectory(tmp_path)
    recipe = Recipe.model_validate({"data": {"path": ["x"]}})
    return Context(recipe, place, Journal(place.events)).stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stage_is_given_up_at_once(stop: StopRequest, number: int, tmp_path: Path) -> None:
    before = signal.getsignal(number)

    def stage() -> None:
        with stop.installed():
            os.kill(os.getpid(), number)
            pytest.fail("not stopped")

    with pytest.raises(Interrupted) as caught:
        stage()
    assert (caught.value.code, caught.value.exit_code) == ("E0604", 7)
    assert f"fettle resume {tmp_path}" in caught.value.hint
    assert signal.getsignal(number) is before


def test_training_is_told_and_ends_itself(stop: StopRequest) -> None:
    def training() -> None:
        with stop.installed(), stop.wait():
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.requested
            raise ValueError("ended by itself")

    with pytest.raises(ValueError, match="ended by itself"):
        training()


def test_a_request_at_the_very_end_is_not_forgotten(stop: StopRequest) -> None:
    done = []

    def stages() -> None:
        with stop.installed():
            with stop.wait():
                os.kill(os.getpid(), signal.SIGINT)
                done.append("model saved")
            pytest.fail("the next stage began")

    with pytest.raises(Interrupted):
        stages()
    assert done == ["model saved"]


def test_the_second_request_stops_where_it_is(stop: StopRequest) -> None:
    def training() -> None:
        with stop.installed(), stop.wait():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("not stopped")

    with pytest.raises(KeyboardInterrupt):
        training()


def test_without_a_request_nothing_happens(stop: StopRequest) -> None:
    with stop.installed(), stop.wait():
        pass
    assert not stop.requested
    assert not stop.deferred


def test_other_threads_leave_the_signals_alone(stop: StopRequest) -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with stop.installed():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
