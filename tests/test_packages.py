"""Which package may import which, what a wheel holds, and what is used of FastMCP's private parts."""

import ast
import json
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_imports_between_packages_go_one_way():
    done = subprocess.run(
        ["lint-imports", "--no-cache"],
        cwd=ROOT, env=_on_path(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_plugin_imports_no_driver_and_no_console():
    program = (
        "import sys, json, mcp_plugin, pdp_client;"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    loaded = set(json.loads(said))
    assert {"mcp_plugin", "pdp_client"} <= loaded
    assert not loaded & {"registry", "bundles", "lictor", "neo4j", "redis", "docker"}


def test_sharing_through_serve_needs_no_redis(tmp_path):
    key = tmp_path / "newest.key"
    key.write_text("00" * 32)
    program = f"""
import sys
sys.modules["redis"] = None  # as where it is not installed
from pdp_client import ConfigurationError
from pdp_client.shared import Shared
Shared("http://127.0.0.1:8180", key_file={str(key)!r})
try:
    Shared("redis://127.0.0.1", key_file={str(key)!r})
except ConfigurationError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "install lictor[redis]" in done.stdout


def test_wheel_holds_the_rego_the_examples_and_the_types(tmp_path):
    subprocess.run(
        ["uv", "build", "--quiet", "--wheel", "--no-build-isolation", f"--out-dir={tmp_path}"],
        cwd=ROOT, env=_on_path(), check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "bundles/_policies/lictor/lictor.rego",
        "bundles/_policies/system/authz/authz.rego",
        "bundles/_policies/local/local.rego",
        "bundles/_policies/schemas/input.json",
        "bundles/_policies/schemas/site.json",
        "lictor/scaffold/.github/workflows/policies.yml",
        "lictor/scaffold/site/writing.rego",
        "lictor/_examples/library_server/server.py",
        "registry/document.schema.json",
        *(f"{package}/py.typed" for package in _PACKAGES),
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "bench/"))]


def _private_attributes(path):
    """Names with one leading underscore that are looked up on anything but `self` and `cls`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Attribute) or node.attr.startswith("__"):
            continue
        of_self = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
        if node.attr.startswith("_") and not of_self:
            yield node.attr


def test_fastmcp_private_attributes_are_in_one_module():
    plugin = ROOT / "mcp_plugin"
    compat = plugin / "fastmcp_compat.py"
    # `self._policy._name` is the plugin's own: what its classes define is left out.
    own = {
        node.attr
        for path in plugin.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    elsewhere = {
        (path.name, name)
        for path in plugin.rglob("*.py")
        if path != compat
        for name in _private_attributes(path)
        if name not in own
    }
    assert elsewhere == set()
    assert len(set(_private_attributes(compat))) <= 8


_PACKAGES = ("lictor_common", "registry", "bundles", "pdp_client", "mcp_plugin", "lictor")


def _on_path():
    import os

    folder = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
