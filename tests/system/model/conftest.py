import tempfile
from pathlib import Path

import pytest
from support.plain_opa import PlainOPA

from .queries import OPTIONS


@pytest.fixture(scope="session")
def modelled_opa(opa_binary):
    """A real OPA with the product's rules, a site whose rules are data, and a rule that evaluates many queries at once."""
    with tempfile.TemporaryDirectory(prefix="lt-", dir="/tmp") as folder:
        opa = PlainOPA(opa_binary, Path(folder), options=OPTIONS).start()
        yield opa
        opa.kill()
