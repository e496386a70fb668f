"""The report in a browser: landmarks, names, headings, contrast, width; skipped without Chromium.

The page stands in a frame of a given width, so that the window's smallest size plays no part; a
script of the outer page looks at it and writes what it found, which ``--dump-dom`` prints.
"""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from report_fixture import add_evidence, write_chat_run, write_classify_run

from fettle.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="Chromium is not on this machine"),
]
LOOK = (Path(__file__).parent / "look_at_page.js").read_text(encoding="utf-8")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-extensions",
    "--virtual-time-budget=20000", "--dump-dom",
)  # fmt: skip
VIEWS = ((1200, "light"), (360, "light"), (360, "dark"), (320, "light"))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the browser finds, by page, width and scheme."""
    folder = tmp_path_factory.mktemp("pages")
    runs = {
        "classify": add_evidence(write_classify_run(folder / "classify", 77, 400)),
        "three": add_evidence(write_classify_run(folder / "three", 3, 120)),
        "chat": add_evidence(write_chat_run(folder / "chat", 60, 40)),
    }
    pages = {name: write_report(run).read_text(encoding="utf-8") for name, run in runs.items()}
    pages["broken"] = BROKEN
    return _look(folder, pages)


BROKEN = """<!doctype html><html><head><style>
body { background: #fff } .pale { color: #aaa } .wide { width: 900px }
</style></head><body><h1>One</h1><h3>Three</h3><p class="pale">pale words</p>
<div class="wide">wide</div><svg width="10" height="10"></svg>
<table><tr><th>head</th></tr><tr><td>cell</td></tr></table><a href="#nowhere">away</a></body></html>
"""
"""Has each fault that is looked for, so that a check that sees nothing is noticed."""


def _look(folder: Path, pages: dict[str, str]) -> dict[str, Any]:
    frames = "".join(
        f'<iframe data-name="{name}" data-scheme="{scheme}" style="width:{width}px;height:800px;'
        f'border:0" srcdoc="{html.escape(page, quote=True)}"></iframe>'
        for name, page in pages.items()
        for width, scheme in VIEWS
    )
    outer = folder / "outer.html"
    outer.write_text(
        f'<!doctype html><meta charset="utf-8"><body>{frames}<pre id="seen"></pre>'
        f"<script>{LOOK}</script></body>",
        encoding="utf-8",
    )
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", outer.as_uri()]
    done = subprocess.run(command, capture_output=True, timeout=300, check=False)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout.decode("utf-8"), re.DOTALL)
    assert found is not None, done.stderr.decode("utf-8", "replace")[-2000:]
    assert found[1], "the script of the outer page failed"
    return json.loads(html.unescape(found[1]))


NAMES = ("classify", "three", "chat")
VIEW_NAMES = [f"{width} {scheme}" for width, scheme in VIEWS]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("view", VIEW_NAMES)
def test_the_page_is_accessible_in_a_browser(seen: dict[str, Any], name: str, view: str) -> None:
    assert seen[f"{name} {view}"]["faults"] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_browser_looked_at_the_whole_page(seen: dict[str, Any], name: str) -> None:
    for view in VIEW_NAMES:
        found = seen[f"{name} {view}"]
        assert found["texts"] > 300
        assert found["svgs"] >= 6
        assert found["tables"] >= 8


def test_dark_is_darker_than_light(seen: dict[str, Any]) -> None:
    assert seen["classify 360 dark"]["page"] < 60 < 200 < seen["classify 360 light"]["page"]


def test_each_fault_is_found_where_there_is_one(seen: dict[str, Any]) -> None:
    kinds = {fault.split(":")[0] for fault in seen["broken 360 light"]["faults"]}
    assert kinds == {
        "language", "title", "landmark", "heading order", "contrast", "wider than the screen",
        "svg without a name", "th without scope", "link to nowhere",
    }  # fmt: skip
