"""An MCP server over a small library of books in the public domain, guarded by lictor."""

import argparse
import asyncio
import os
from pathlib import Path

from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

from mcp_plugin import AllowedLibraries, PolicyMiddleware
from pdp_client import PDP, BearerVerifier, FileRecord, Issuer, KeyringFile
from pdp_client.shared import Shared

CORPUS = {
    library.name: {path.stem: path.read_text("utf-8") for path in sorted(library.iterdir())}
    for library in sorted((Path(__file__).parent / "corpus").iterdir())
}


def build_server(pdp: PDP) -> FastMCP:
    """The server, with every tool call decided by the PDP."""
    mcp = FastMCP("library")
    mcp.add_middleware(PolicyMiddleware(pdp, public_tools={"get_health"}))

    @mcp.tool
    def get_health() -> str:
        """Whether the server is up."""
        return "ok"

    @mcp.tool(tags={"read"})
    def list_libraries(libraries: list[str] = AllowedLibraries()) -> dict[str, list[str]]:
        """The libraries you may read, and the documents in each."""
        return {library: [*CORPUS[library]] for library in libraries if library in CORPUS}

    @mcp.tool(tags={"read"})
    def search(query: str, libraries: list[str] = AllowedLibraries()) -> list[dict[str, str]]:
        """The lines that contain a text, in any case, and the documents they are in."""
        return [
            {"library": library, "document": document, "line": line.strip()}
            for library in libraries
            for document, text in CORPUS.get(library, {}).items()
            for line in text.splitlines()
            if query.casefold() in line.casefold()
        ]

    @mcp.tool(tags={"read"})
    def get_document(library: str, document: str, libraries: list[str] = AllowedLibraries()) -> str:
        """A document's text."""
        if library not in libraries or document not in CORPUS.get(library, {}):
            # One answer for both: what a caller may not read, it may not find out about either.
            raise ToolError("No such document.")
        return CORPUS[library][document]

    return mcp


def pdp_from_environment() -> PDP:
    """The PDP that the `LICTOR_*` variables describe; the README lists them."""
    issuers = [Issuer("mnemosyne", KeyringFile(os.environ["LICTOR_TEAM_JWKS"]))]
    if turn_keys := os.environ.get("LICTOR_TURN_JWKS"):
        issuers.append(Issuer("daedalus", KeyringFile(turn_keys)))
    record = os.environ.get("LICTOR_RECORD")
    shared = None
    if url := os.environ.get("LICTOR_SHARED_URL"):
        shared = Shared(url, key_file=os.environ["LICTOR_SHARED_KEY"])
    return PDP(
        opa_url=os.environ["LICTOR_OPA_URL"],
        opa_token_file=os.environ.get("LICTOR_OPA_TOKEN_FILE"),
        verifier=BearerVerifier(issuers),
        server="library",
        record=FileRecord(record) if record else None,
        shared=shared,
        cache=shared is not None,
    )


async def main() -> None:
    """Serve over streamable HTTP until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    async with pdp_from_environment() as pdp:
        await build_server(pdp).run_async("http", host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    asyncio.run(main())
