"""An OPA that also says how long it took, which the product's OPAs do not reveal.

A client may send one query parameter only, and `metrics` is not it. So a benchmark starts an OPA of
its own, whose first bundle, `local`, knows another token, and lets that one send anything.
"""

import io
import json
import secrets
import tarfile
from hashlib import sha256

from bundles.opa.server import client_token_file, prepare
from bundles.publish.signing import pack_unsigned
from tests.support.opa_process import OPAProcess

_REGO = b"""\
package local

allow if data.local.clients[crypto.sha256(input.identity)] == "bench"
"""


class MeasuredOPA(OPAProcess):
    """An OPA as `lictor opa` starts it, with a second token in `bench_token`."""

    def start(self):
        self.bench_token = secrets.token_urlsafe(32)
        prepare(self.settings)
        tokens = {client_token_file(self.settings.folder).read_text(): "query"}
        bundle = self.settings.folder / "local.tar.gz"
        bundle.write_bytes(_extended(bundle.read_bytes(), {**tokens, self.bench_token: "bench"}))
        self._run()


def _extended(bundle, tokens):
    """The bundle with these tokens instead, and with the rule above."""
    with tarfile.open(fileobj=io.BytesIO(bundle), mode="r:gz") as tar:
        files = {one.name.lstrip("/"): tar.extractfile(one).read() for one in tar.getmembers()}
    data = json.loads(files["local/data.json"])
    data["clients"] = {sha256(token.encode()).hexdigest(): role for token, role in tokens.items()}
    return pack_unsigned(
        roots=json.loads(files[".manifest"])["roots"],
        data=data,
        path="local",
        rego={"local/local.rego": files["local/local.rego"], "local/bench.rego": _REGO},
    )
