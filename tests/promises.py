"""The promises of the README and the threat model, each with the tests that show it: `python -m tests.promises`."""

import ast
from pathlib import Path

import yaml

TESTS = Path(__file__).parent


def promises():
    """Each promise with the names of its tests."""
    listed = yaml.safe_load((TESTS / "promises.yaml").read_text())
    return [(one["promise"], one["tests"]) for one in listed]


def where():
    """The files in which each test function stands."""
    found = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith(
                "test_"
            ):
                found.setdefault(node.name, []).append(path.relative_to(TESTS.parent).as_posix())
    return found


def main():
    """Print the table in Markdown."""
    places = where()
    print("| promise | shown by |")
    print("| --- | --- |")
    for promise, names in promises():
        shown = "; ".join(f"`{place}::{name}`" for name in names for place in places[name])
        print(f"| {promise} | {shown} |")


if __name__ == "__main__":
    main()
