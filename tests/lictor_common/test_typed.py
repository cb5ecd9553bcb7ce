"""JSON as a dataclass, with exactly its fields and their types."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from lictor_common.typed import from_json


@dataclass(frozen=True)
class Sample:
    number: int
    share: float
    name: str | None
    more: Mapping[str, object]


GOOD = {"number": 1, "share": 0.5, "name": "x", "more": {}}


@pytest.mark.parametrize("change", [{}, {"share": 1}, {"name": None}, {"more": {"a": [1]}}])
def test_from_json_returns_the_dataclass_for_fitting_values(change):
    content = {**GOOD, **change}
    assert from_json(Sample, json.dumps(content).encode()) == Sample(**content)


@pytest.mark.parametrize(
    "change",
    [
        {"number": "1"}, {"number": True}, {"number": 1.0}, {"number": None}, {"number": 10**400},
        {"share": "0.5"}, {"share": float("nan")}, {"share": float("inf")}, {"share": False},
        {"name": 7}, {"name": "\ud800"}, {"more": []}, {"more": None}, {"extra": 1},
    ],
    ids=str,
)  # fmt: skip
def test_from_json_refuses_values_of_other_types(change):
    assert from_json(Sample, json.dumps({**GOOD, **change}).encode()) is None


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[]", b"null", b"{}", b"[" * 100_000, b'"x"'],
    ids=lambda body: repr(body[:8]),
)  # fmt: skip
def test_from_json_refuses_what_is_not_such_an_object(body):
    assert from_json(Sample, body) is None
