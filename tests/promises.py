"""What the README and the threat model promise, and attacks that held, each with the tests that show it.

`python -m tests.promises` prints the promises, with `--attacks` the attacks.
"""

import ast
import re
import sys
from pathlib import Path

import yaml

TESTS = Path(__file__).parent


def promises():
    """Each promise with the names of its tests."""
    listed = yaml.safe_load((TESTS / "promises.yaml").read_text())
    return [(one["promise"], one["tests"]) for one in listed]


def attacks():
    """Each attack with its part and the names of its tests."""
    listed = yaml.safe_load((TESTS / "attacks.yaml").read_text())
    return [
        (part["part"], one["attack"], one["tests"]) for part in listed for one in part["attacks"]
    ]


def where():
    """The files in which each test stands, in Python and in Rego."""
    found = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
                "test_"
            ):
                found.setdefault(node.name, []).append(path.relative_to(TESTS.parent).as_posix())
    for path in sorted((TESTS.parent / "policies").rglob("*_test.rego")):
        for name in re.findall(r"^(test_\w+)", path.read_text(), re.MULTILINE):
            found.setdefault(name, []).append(path.relative_to(TESTS.parent).as_posix())
    return found


def main(*options):
    """Print a table in Markdown."""
    places = where()

    def shown(names):
        return "; ".join(f"`{place}::{name}`" for name in names for place in places[name])

    if "--attacks" in options:
        print("| goes for | attack | tried by |\n| --- | --- | --- |")
        for part, attack, names in attacks():
            print(f"| {part} | {attack} | {shown(names)} |")
        return
    print("| promise | shown by |\n| --- | --- |")
    for promise, names in promises():
        print(f"| {promise} | {shown(names)} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
