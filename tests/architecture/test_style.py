"""House rules that no linter knows: sizes, imports, probing, silent excepts."""

import ast
import io
import re
import tokenize
from pathlib import Path

from tests.architecture.source import REPOSITORY, SOURCE, functions, place, source_files, tree

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 120

IGNORE_WITH_REASON = re.compile(r"# type: ignore\[[a-z-]+(?:, ?[a-z-]+)*\]\s+# \w+")


def test_no_file_is_too_long() -> None:
    long = {}
    for path in source_files():
        num_lines = len(path.read_text(encoding="utf-8").splitlines())
        if num_lines > MAX_FILE_LINES:
            long[place(path)] = num_lines
    assert source_files()
    assert not long, f"over {MAX_FILE_LINES} lines: {long}"


def test_no_function_is_too_long() -> None:
    long = {}
    for path in source_files():
        for node in functions(path):
            num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if num_lines > MAX_FUNCTION_LINES:
                long[f"{place(path, node)} {node.name}"] = num_lines
    assert not long, f"over {MAX_FUNCTION_LINES} lines: {long}"


def test_every_module_says_what_it_does() -> None:
    bare = [place(path) for path in source_files() if not ast.get_docstring(tree(path))]
    assert not bare, f"no module docstring: {bare}"


def test_imports_stand_at_the_top_outside_cli() -> None:
    late = [
        place(path, node)
        for path in source_files()
        if (SOURCE / "cli") not in path.parents
        for function in functions(path)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not late, f"imports inside functions: {late}"


def test_nothing_is_probed_with_hasattr() -> None:
    probed = [
        place(path, node)
        for path in source_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Name) and node.id == "hasattr"
    ]
    assert not probed, f"hasattr: {probed}"


def test_no_exception_is_swallowed() -> None:
    silent = [
        place(path, node)
        for path in source_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler)
        and all(
            isinstance(statement, ast.Pass)
            or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            for statement in node.body
        )
    ]
    assert not silent, f"except without an answer: {silent}"


def test_no_bare_except() -> None:
    bare = [
        place(path, node)
        for path in source_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not bare, f"except without a class: {bare}"


def _comments(path: Path) -> list[tuple[int, str]]:
    text = path.read_text(encoding="utf-8")
    return [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]


def test_type_ignores_name_their_code_and_reason() -> None:
    unexplained = [
        f"{place(path)}:{line} {comment}"
        for path in source_files()
        for line, comment in _comments(path)
        if "type: ignore" in comment and not IGNORE_WITH_REASON.search(comment)
    ]
    assert not unexplained, f"write `# type: ignore[code]  # reason`: {unexplained}"


def test_pickle_is_never_imported() -> None:
    names = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    found = []
    for path in source_files():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            else:
                continue
            found += [place(path, node) for name in modules if name.partition(".")[0] in names]
    assert not found, f"can unpickle: {found}"


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    twice = sorted({name for name in names if names.count(name) > 1})
    assert not twice, f"pytest can't tell them apart: {twice}"
