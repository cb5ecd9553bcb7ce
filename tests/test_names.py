"""Names of the packages: one class for one name, and functions that say what they do."""

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parent.parent
PACKAGES = ("lictor_common", "registry", "bundles", "pdp_client", "mcp_plugin", "lictor")
VAGUE = {"ask", "tell", "told", "look", "take", "place", "shown", "found"}


@cache
def _all_definitions(folder):
    return [
        (node, f"{path.relative_to(ROOT)}:{node.lineno}")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def _definitions(*types, folders=PACKAGES):
    for folder in folders:
        for node, place in _all_definitions(folder):
            if isinstance(node, types):
                yield node.name, place


def test_public_classes_have_names_of_their_own():
    places = defaultdict(list)
    for name, place in _definitions(ast.ClassDef):
        if not name.startswith("_"):
            places[name].append(place)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_public_functions_have_no_vague_names():
    functions = _definitions(ast.FunctionDef, ast.AsyncFunctionDef)
    assert [place for name, place in functions if name in VAGUE] == []


def test_public_classes_of_tests_have_names_of_their_own():
    places = defaultdict(list)
    for name, place in _definitions(ast.ClassDef, folders=["tests"]):
        if not name.startswith("_"):
            places[name].append(place)
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_test_names_have_sixty_characters_in_the_median():
    functions = _definitions(ast.FunctionDef, ast.AsyncFunctionDef, folders=["tests"])
    names = {name for name, _ in functions if name.startswith("test_")}
    assert median(map(len, names)) <= 60
