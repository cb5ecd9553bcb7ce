"""The house: which room may know which, and what a wheel takes along."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_arrows_between_the_rooms_go_one_way():
    done = subprocess.run(
        ["lint-imports", "--no-cache"],
        cwd=ROOT, env=_on_path(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_an_mcp_server_that_installs_the_plugin_gets_no_driver_and_no_console():
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


def test_a_wheel_has_the_rego_the_example_and_the_types(tmp_path):
    subprocess.run(
        ["uv", "build", "--quiet", "--wheel", "--no-build-isolation", f"--out-dir={tmp_path}"],
        cwd=ROOT, env=_on_path(), check=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "bundles/_policies/lictor/lictor.rego",
        "bundles/_policies/system/authz/authz.rego",
        "bundles/_policies/schemas/input.json",
        "lictor/_examples/library_server/server.py",
        "registry/document.schema.json",
        *(f"{room}/py.typed" for room in _ROOMS),
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "bench/"))]


_ROOMS = ("registry", "bundles", "pdp_client", "mcp_plugin", "lictor")


def _on_path():
    import os

    folder = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}
