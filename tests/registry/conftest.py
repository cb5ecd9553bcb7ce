from __future__ import annotations

from contextlib import aclosing

import pytest

from registry import Library, Token, User, Workspace, open_registry, token_label

# Every store that the contract holds for, and the URL of an empty one.
BACKENDS = {
    "sqlite": lambda tmp_path: f"sqlite:///{tmp_path / 'registry.db'}",
}

NOW = 1_795_000_000.0
DIGEST = "9f86d081" + 56 * "a"


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(params=BACKENDS)
def url(request, tmp_path):
    return BACKENDS[request.param](tmp_path)


@pytest.fixture
async def registry(url):
    async with aclosing(await open_registry(url, clock=lambda: NOW)) as registry:
        yield registry


@pytest.fixture
def write(registry):
    """Put records in one transaction, and return the stamp after it."""

    async def write(*records):
        async with registry.transaction(actor="tests", action="write") as tx:
            await tx.put(*records)
        return tx.stamp

    return write


@pytest.fixture
async def house(write):
    """A user, two workspaces, and a library in the first: revision 1."""
    await write(
        User(id="ada", name="Ada"),
        Workspace(id="docs", name="Docs"),
        Workspace(id="lab", name="Lab"),
        Library(uid="lib-a", name="A", workspace_id="docs", tags=("public",)),
    )


@pytest.fixture
def token():
    return Token(digest=DIGEST, label=token_label(DIGEST), user="ada", tools=("*",))
