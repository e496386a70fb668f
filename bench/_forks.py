"""Children that are forked from a process with everything imported, and killed.

In: what a child does. Out: how it ended. Used by both sides of kill_resume.py, so it imports
nothing but the standard library.
"""

import hashlib
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Work = Callable[[Path], None]
"""One life of a training: begins, or goes on with what it finds in the folder."""


def start(work: Callable[[], None], errors: Path) -> int:
    """Fork a child that does the work and ends; its traceback goes into a file."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        errors.write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        os._exit(code)


def finish(work: Callable[[], None], errors: Path) -> int:
    """Do the work in a child; return its exit code, -9 when it was killed."""
    _, status = os.waitpid(start(work, errors), 0)
    return os.waitstatus_to_exitcode(status)


def kill_after(seconds: float, work: Callable[[], None], errors: Path) -> int:
    """Do the work in a child and kill it after some time, unless it has ended."""
    child = start(work, errors)
    time.sleep(seconds)
    ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder in memory where there is one: syncing a disk adds nothing against kills."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="kill-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sha256(path: Path) -> str:
    """Hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def random_kills(
    life: Work,
    fingerprint: Callable[[Path], object],
    number: int,
    seed: int,
    most_kills: int = 3,
) -> dict[str, object]:
    """Kill a training at random instants, go on with it, and compare with one that was left alone.

    Args:
        life: one life of the training.
        fingerprint: what two trainings must have in common, of a finished one.
        number: of kills, over all trainings.
        seed: of the instants, even over the time that a life takes.
        most_kills: of one training, before it may finish.

    Returns:
        Counts: trainings and kills, and of the trainings those that ended bitwise equal, ended
        otherwise, or could not go on; with the first error text.
    """
    draw = random.Random(seed)
    counts = {"trainings": 0, "kills": 0, "bitwise": 0, "different": 0, "cannot_resume": 0}
    first_error = ""
    with workplace() as root:
        errors = root / "error.txt"
        whole = root / "whole"
        started = time.monotonic()
        if finish(lambda: life(whole), errors):
            raise RuntimeError(errors.read_text(encoding="utf-8"))
        seconds = time.monotonic() - started
        expected, killed = fingerprint(whole), root / "killed"
        while counts["kills"] < number:
            kills = 0
            wanted = min(draw.randint(1, most_kills), number - counts["kills"])
            while kills < wanted:
                code = kill_after(draw.uniform(0, seconds), lambda: life(killed), errors)
                if code != -signal.SIGKILL:
                    break  # it had ended, well or not
                kills += 1
            if kills:
                code = finish(lambda: life(killed), errors)
                counts["trainings"] += 1
                counts["kills"] += kills
                if code:
                    counts["cannot_resume"] += 1
                    first_error = first_error or errors.read_text(encoding="utf-8")
                else:
                    same = fingerprint(killed) == expected
                    counts["bitwise" if same else "different"] += 1
            shutil.rmtree(killed, ignore_errors=True)
    return {**counts, "seconds_of_a_life": round(seconds, 3), "first_error": first_error[-2000:]}
