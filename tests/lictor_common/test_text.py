"""Foreign text: escaped, so that it cannot steer a terminal."""

import json

import pytest

from lictor_common.text import printable, printable_json

ODD = ["\x1b[2J", "\x9b31m", "\r\n", "\u202e", "\ud800", "\0", "\u2028", "\x7f"]


@pytest.mark.parametrize("text", ODD)
def test_printable_escapes_unprintable_characters(text):
    assert printable(f"a{text}b").isprintable()
    assert printable(f"a{text}b").encode()


def test_printable_keeps_ordinary_text_and_cuts_it():
    assert printable("Ada, Grüße, 日本") == "Ada, Grüße, 日本"
    assert printable("abc", longest=2) == "ab"
    assert len(printable("\x1b" * 10, longest=5)) == 5


@pytest.mark.parametrize("text", ODD)
def test_printable_json_is_the_same_value_and_steers_nothing(text):
    written = printable_json({text: [text, "plain"]})
    assert written.isprintable()
    assert json.loads(written) == {text: [text, "plain"]}
