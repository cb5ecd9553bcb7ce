"""A real OPA without bundles: the product's Rego loaded as files, its data put by the test.

For tests of the rules and of the transports to OPA; whatever concerns bundles uses `support.deployment`.
"""

import copy
import http.client
import json
import socket
import subprocess
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TABLE = yaml.safe_load((ROOT / "tests" / "cases" / "cases.yaml").read_text())


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def union(below, above):
    """Rego's `object.union`: objects merge, all else replaces."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return copy.deepcopy(above)
    merged = {**copy.deepcopy(below)}
    for key, value in above.items():
        merged[key] = union(below[key], value) if key in below else copy.deepcopy(value)
    return merged


def _started_rightly(shards=64):
    """Rules with what `lictor.registry.intact` finds in an OPA that has the bundles of `lictor serve`.

    As rules, since OPA takes no data over HTTP below a root that a bundle seems to own.
    """
    roots = {"live": "registry/live", "heartbeat": "registry/heartbeat"}
    roots |= {f"base-{n:02x}": f"registry/base/{n:02x}" for n in range(shards)}
    bundles = {
        name: {"manifest": {"revision": "1:1", "roots": [root], "rego_version": 0}}
        for name, root in roots.items()
    }
    bundles["site"] = {"manifest": {"revision": "site-1", "roots": ["site"], "rego_version": 1}}
    return {
        "local.rego": "package local\n\nprotects_roots := true\n",
        "bundles.rego": f"package system\n\nbundles := {json.dumps(bundles)}\n",
    }


def make_dataset(patch=None, without=(), *, now=None):
    """The table's dataset with a case's changes; `*_ago` become moments."""
    laid = union(TABLE["dataset"], patch or {})
    for path in without:
        *parents, last = path.split("/")
        place = laid
        for parent in parents:
            place = place[parent]
        del place[last]
    heartbeat = laid.get("registry", {}).get("heartbeat", {})
    now = time.time() if now is None else now
    for name in [name for name in heartbeat if name.endswith("_ago")]:
        ago = heartbeat.pop(name)
        if isinstance(ago, int | float):
            heartbeat[name.removesuffix("_ago") + "_at_ns"] = int((now - ago) * 1e9)
    return laid


class PlainOPA:
    """One process with two addresses: a unix socket and a TCP port."""

    def __init__(self, binary, folder, *, options=(), tls=False):
        self.socket = folder / "plain.sock"
        self.port = free_port()
        self.unix_url = f"unix://{self.socket}"
        self.tcp_url = f"http{'s' if tls else ''}://localhost:{self.port}"
        self._command = [
            str(binary.path), "run", "--server", "--disable-telemetry", "--log-level=error",
            "--ignore=*_test.rego", *options,
            *([] if tls else [f"--addr=unix://{self.socket}"]), f"--addr=localhost:{self.port}",
            str(ROOT / "policies" / "lictor"), *(str(folder / name) for name in _started_rightly()),
        ]  # fmt: skip
        for name, rego in _started_rightly().items():
            (folder / name).write_text(rego)
        self._process = None

    def start(self):
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        latest = time.monotonic() + 20
        while not self._listens():
            assert time.monotonic() < latest, "OPA does not listen"
            time.sleep(0.01)
        return self

    def kill(self):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def set_dataset(self, laid):
        """Replace all data; what is not in it is gone."""
        self.request("PUT", "/v1/data/registry", laid.get("registry", {}))
        self.request("PUT", "/v1/data/site", laid.get("site", {}))
        self.request("PUT", "/v1/data/lictor/manifest", laid["lictor"]["manifest"])

    def value(self, path):
        """The document at a path of `data`."""
        return json.loads(self.request("GET", f"/v1/data/{path}"))["result"]

    def query(self, query):
        """The first result of a query in Rego, its variables by name."""
        return json.loads(self.request("POST", "/v1/query", {"query": query}))["result"][0]

    def put_policy(self, name, rego):
        self._send("PUT", f"/v1/policies/{name}", rego)

    def request(self, method, path, document=None):
        return self._send(method, path, None if document is None else json.dumps(document))

    def _send(self, method, path, body):
        connection = http.client.HTTPConnection("localhost", self.port, timeout=20)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        assert answer.status in {200, 204, 304}, text
        return text

    def _listens(self):
        assert self._process.poll() is None, "OPA has ended"
        try:
            socket.create_connection(("localhost", self.port), timeout=1).close()
        except OSError:
            return False
        return True
