"""The docs say what the program does: their blocks run, their tables are the code's, their links lead somewhere."""

import re

import pytest

from .conftest import GIVEN, PAGES, blocks


@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.mark for b in blocks(p))], ids=lambda p: p.stem
)
def test_a_page_does_what_it_says(page, reader, state_template):
    for given in re.findall(r"^<!-- given: (.*) -->$", page.read_text(), re.M):
        GIVEN[given](reader, state_template)
    for block in blocks(page):
        reader.follow(block)
