"""One virtual environment for each tool, made when it is first needed.

In: a name. Out: the Python of ``bench/.envs/<name>`` with what ``bench/environments/<name>.txt``
pins. Must not know: what the tool does.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from bench.compare.prepare import BENCH

ENVIRONMENTS = BENCH / ".envs"
REQUIREMENTS = BENCH / "environments"
READY = ".fettle-bench"


class NotInstalled(Exception):
    """A tool's environment could not be made; the text says why."""


def python_of(name: str) -> Path:
    """The interpreter of a tool's environment; installs it if needed.

    Args:
        name: of a requirements file, or "fettle" for the environment this runs in.

    Raises:
        NotInstalled: pip or venv failed.
    """
    if name == "fettle":
        return Path(sys.executable)
    requirements = REQUIREMENTS / f"{name}.txt"
    directory = ENVIRONMENTS / name
    python = directory / "bin" / "python"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    ready = directory / READY
    if ready.is_file() and ready.read_text(encoding="ascii").strip() == digest and python.is_file():
        return python
    print(f"      installing {name} into {directory} (minutes, once)", file=sys.stderr, flush=True)
    if not python.is_file():
        base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
        _call([str(base), "-m", "venv", "--clear", str(directory)])
    _call(
        [
            *(str(python), "-m", "pip", "install", "--quiet", "--no-input"),
            *("--disable-pip-version-check", "-r", str(requirements)),
        ]
    )
    ready.write_text(digest, encoding="ascii")
    return python


def installed(python: Path) -> dict[str, str]:
    """Every package of an environment with its version."""
    listed = subprocess.run(
        [str(python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {item["name"]: item["version"] for item in json.loads(listed.stdout)}


def _call(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise NotInstalled(lines[-1][:300] if lines else f"{command[1:4]} ended with an error")
