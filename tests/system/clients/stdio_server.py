"""The bookshop over stdio; the environment names OPA, and the file with the caller's bearer, if any."""

import os

from mcp_plugin import PolicyMiddleware, StdioBearer
from pdp_client import PDP, BearerVerifier
from tests.system.clients.server import bookshop

where = os.environ.get("BEARER_FILE")
pdp = PDP(opa_url=os.environ["OPA_URL"], verifier=BearerVerifier([]), deadline=10)
mcp = bookshop()
mcp.add_middleware(
    PolicyMiddleware(
        pdp,
        public_tools={"get_health"},
        stdio=None if where is None else StdioBearer.from_file(where),
    )
)
mcp.run("stdio", show_banner=False)
