"""docs/isolation.md beside the code: each test that it names is there, each option has a row."""
import ast
import re
import subprocess

from conftest import BINARY, ROOT
from test_openapi import SCHEMAS, fields

TABLE = (ROOT / "docs/isolation.md").read_text()
TESTS = ROOT / "tests/api"
NAMED = re.compile(r"(test_\w+\.py)::(test_\w+)")


def rows():
    """The cells of each row of each table."""
    return [[cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in TABLE.splitlines()
            if line.startswith("| ") and not line.startswith("|---")]


def first_column():
    return {word for row in rows() for word in re.findall(r"`([^`]+)`", row[0])}


def functions(file):
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def test_each_named_test_exists():
    seed = (TESTS / "test_seed.py").read_text().split('"""')[1]
    named = set(NAMED.findall(TABLE + seed))
    assert len(named) > 100
    for file in {f for f, _ in named}:
        missing = {t for f, t in named if f == file} - functions(file)
        assert not missing, (file, missing)


def test_each_row_names_a_test_or_says_why_not():
    for row in rows():
        if row[-1] != "test" and row[-1] != "why":
            assert NAMED.search(row[-1]) or len(row) == 2, row


def test_each_field_of_a_task_has_a_row():
    pointers = {p.strip("/").replace("/0/", "/").replace("/", ".") for p in fields(SCHEMAS["TaskSpec"])}
    assert len(pointers) > 60 and not pointers - first_column(), pointers - first_column()


def test_each_option_has_a_row():
    text = subprocess.run([BINARY, "--help"], check=True, capture_output=True, text=True).stdout
    options = {name.replace("-", "_") for name in re.findall(r"^  --([a-z-]+) ", text, re.M)}
    assert len(options) > 40 and not options - first_column(), options - first_column()
