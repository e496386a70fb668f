"""Imports that import-linter can't check yet, or can't check at all."""

import subprocess
import sys

import grimp
import pytest
from tests.architecture.source import REPOSITORY, SOURCE

TORCH = ("torch", "transformers", "peft", "accelerate")
HEAVY = (*TORCH, "sklearn", "scipy", "pyarrow")
LIGHT = (
    "errors",
    "records",
    "progress",
    "statistics",
    "metrics",
    "recipe",
    "chat",
    "data",
    "evaluate",
    "report",
)
HELP_SECONDS = 0.5


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("fettle", include_external_packages=True, cache_dir=None)


@pytest.mark.parametrize("package", ["jobs", "service", "web"])
def test_the_service_reaches_training_only_by_subprocess(
    graph: grimp.ImportGraph, package: str
) -> None:
    source = f"fettle.{package}"
    if source not in graph.modules:
        assert not (SOURCE / package).exists(), f"{source} has no __init__.py"
        pytest.skip(f"{source} is not written yet")
    for target in ("pipeline", "search", "train", "models", "inference"):
        if f"fettle.{target}" in graph.modules:
            chains = graph.find_shortest_chains(source, f"fettle.{target}", as_packages=True)
            assert not chains, f"{source} imports fettle.{target}: {chains}"
    if "torch" in graph.modules:
        assert not graph.find_shortest_chains(source, "torch", as_packages=True)


def test_the_core_never_imports_the_engines_it_does_without(graph: grimp.ImportGraph) -> None:
    for name in ("accelerate", "trl", "ray", "datasets"):
        importers = graph.find_modules_that_directly_import(name) if name in graph.modules else ()
        assert not importers, f"{name} is imported by {importers}"


def _fresh(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )


def test_the_command_line_loads_nothing_heavy() -> None:
    done = _fresh(
        "import sys, fettle, fettle.cli.main\n"
        f"print(*(name for name in {HEAVY!r} if name in sys.modules))"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_the_light_half_loads_no_torch_in_a_fresh_process() -> None:
    done = _fresh(
        "import importlib, pkgutil, sys\n"
        f"for name in {LIGHT!r}:\n"
        "    module = importlib.import_module('fettle.' + name)\n"
        "    for item in pkgutil.walk_packages(getattr(module, '__path__', []),"
        " module.__name__ + '.'):\n"
        "        importlib.import_module(item.name)\n"
        f"print(*(name for name in {TORCH!r} if name in sys.modules))"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("verb", ["check", "compare", "report"])
def test_verbs_about_files_need_no_torch(verb: str) -> None:
    done = _fresh(
        "import sys, fettle.api\n"
        f"fettle.api.{verb}\n"
        f"print(*(name for name in {TORCH!r} if name in sys.modules))"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_help_answers_quickly() -> None:
    """Processor seconds of `fettle --help`, the best of three: the machine may be busy."""
    code = (
        "import resource, sys\n"
        "from fettle.cli.main import main\n"
        "sys.argv = ['fettle', '--help']\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "    print('seconds', used.ru_utime + used.ru_stime, file=sys.stderr)\n"
    )
    seconds = []
    for _ in range(3):
        done = _fresh(code)
        assert done.returncode == 0, done.stderr
        assert "Usage" in done.stdout
        seconds.append(float(done.stderr.rpartition("seconds")[2]))
    assert min(seconds) < HELP_SECONDS, f"`fettle --help` takes {min(seconds):.2f} s"
