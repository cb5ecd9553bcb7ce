"""What pydantic makes of a value, type by type: unchanged values are written back, others refused."""

import enum
import re
from collections import deque
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Address
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    AnyUrl,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    HttpUrl,
    Json,
    RootModel,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from mcp_plugin.exceptions import ArgumentsRefusedError
from mcp_plugin.protocol.function_arguments import written_back


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    max_rows: int = Field(10, alias="maxRows")


class Chosen(BaseModel):
    a: int = Field(1, validation_alias=AliasChoices("a", "b"))


class ByPath(BaseModel):
    a: int = Field(1, validation_alias=AliasPath("x", 0))


class Swapped(BaseModel):
    low: int = 0
    high: int = 9

    @model_validator(mode="after")
    def in_order(self):
        self.low, self.high = sorted((self.low, self.high))
        return self


class Scaled(BaseModel):
    a: int = 1

    @field_validator("a", mode="before")
    @classmethod
    def scale(cls, value):
        return int(value) * 1000


class Excluded(BaseModel):
    a: int = Field(1, exclude=True)


class HidesItsField(BaseModel):
    rows: int = 1

    @field_serializer("rows")
    def hide(self, _):
        return 1


class HidesItself(BaseModel):
    rows: int = 1

    @model_serializer
    def hide(self):
        return {"rows": 1}


class Computed(BaseModel):
    a: int = 1

    @computed_field
    @property
    def b(self) -> int:
        return self.a + 1


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int = 1


@dataclass
class Record:
    a: int = 1
    b: str = "x"


class Node(BaseModel):
    n: int = 1
    next: "Node | None" = None


class Level(enum.IntEnum):
    LOW = 1


class Dog(BaseModel):
    kind: Literal["dog"]
    size: int = 2


class LaxCat(BaseModel):
    kind: Annotated[Literal["cat"], BeforeValidator(str.lower)]
    size: int = 5


Numbers = RootModel[list[int]]
UPPER = "6F9619FF-8B86-D011-B42D-00C04FC964FF"
CONVERTED = [
    (Aliased, {"max_rows": 1}), (Aliased, {"maxRows": 1, "max_rows": 9}), (list[Aliased], [{"max_rows": 9}]),
    (dict[str, Aliased], {"k": {"max_rows": 9}}), (Chosen, {"b": 9}), (Chosen, {"a": 1, "b": 9}),
    (ByPath, {"x": [9]}), (Swapped, {"low": 9, "high": 1}), (Scaled, {"a": 1}), (Excluded, {"a": 9}),
    (HidesItsField, {"rows": 9}), (HidesItself, {"rows": 9}), (Computed, {"a": 3, "b": 9}),
    (Record, {"a": "5"}), (Record, {"a": 5, "z": 1}), (Level, "1"), (Level, True), (Dog | LaxCat, {"kind": "CAT"}),
    (timedelta, "60"), (timedelta, 60), (timedelta, "P0DT60S"), (time, "12:00"), (time, 43200),
    (datetime, "2024-01-01 00:00:00"), (datetime, "2024-01-01T00:00:00.000Z"), (datetime, "2024-01-01"),
    (date, 1704067200), (HttpUrl, "http://EXAMPLE.com/"), (HttpUrl, "http://example.com"),
    (HttpUrl, "http://example.com:80/"), (AnyUrl, "x://a/../b"), (IPv6Address, "0:0:0:0:0:0:0:1"),
    (IPv4Network, "10.0.0.0/255.0.0.0"), (ByteSize, "1MB"), (Base64Bytes, "aGk"), (Json[int], "5"), (SecretStr, 5),
    (Decimal, "1e3"), (Decimal, "NaN"), (int, "1_000"), (int, " 5 "), (float, "inf"), (float, 2**53 + 1), (bool, "on"),
    (bool, 0), (Literal[1, 2], True), (set[int], ["2", 1]), (tuple[int, ...], ["1"]), (dict[int, str], {"01": "a"}),
    (dict[UUID, int], {UPPER: 1}), (dict[bool, int], {"true": 1}), (Numbers, ["1"]), (deque[int], ["1"]),
    (Annotated[list[int], AfterValidator(lambda v: v[:1])], [1, 2]), (set[int], [1, 1]),
    (Annotated[list[str], BeforeValidator(lambda v: v.split(","))], "a,b"), (Annotated[str, AfterValidator(str.strip)], " a "),
]  # fmt: skip
UNCHANGED = [
    (Aliased, {"maxRows": 9}), (Chosen, {"a": 9}), (Swapped, {"low": 1, "high": 9}), (HidesItself, {"rows": 1}),
    (Open, {"a": 1, "z": 5}), (Record, {"a": 5, "b": "y"}), (Level, 1), (Level, 1.0), (Dog | LaxCat, {"kind": "dog", "size": 2}),
    (timedelta, "PT1M"), (time, "12:00:00"), (datetime, "2024-01-01T00:00:00"), (date, "2024-01-01"),
    (HttpUrl, "http://example.com/"), (IPv6Address, "::1"), (ByteSize, 1000), (Base64Bytes, "aGk="), (bytes, "abc"),
    (SecretStr, "s"), (Decimal, 0.1), (Decimal, 1000), (int, 5.0), (int, 2**70), (float, 1), (Literal["a"], "a"),
    (set[int], [2, 1]), (frozenset[str], ["b", "a"]), (deque[int], [1, 2]), (tuple[int, str], [1, "x"]),
    (dict[int, str], {"1": "a"}), (int | str, "5"), (UUID | str, UPPER), (date | str, "1704067200"), (Numbers, [1, 2]),
    (Node, {"n": 1, "next": {"n": 2, "next": None}}), (re.Pattern, "a+"), (Any, {"a": [1, None, True, 1.5]}), (int | None, None),
]  # fmt: skip


def written(kind, value):
    def tool(x): ...

    tool.__annotations__ = {"x": kind}
    return written_back(tool, {"x": value}, strict=False)["x"]


@pytest.mark.parametrize(("kind", "value"), CONVERTED)
def test_converted_value_is_refused(kind, value):
    with pytest.raises(ArgumentsRefusedError) as refused:
        written(kind, value)
    assert refused.value.parameter == "x"


@pytest.mark.parametrize(("kind", "value"), UNCHANGED)
def test_unchanged_value_is_written_back(kind, value):
    assert written(kind, value) == value


def test_defaults_and_computed_members_are_written_too():
    assert written(Record, {"a": 5}) == {"a": 5, "b": "x"}
    assert written(Computed, {"a": 3}) == {"a": 3, "b": 4}


def test_default_set_of_several_types_is_written_in_one_order():
    def tool(x: set[int | str] = {"b", 1, "a"}): ...  # noqa: B006

    assert written_back(tool, {}, strict=False) == {"x": ["a", "b", 1]}


def test_strict_server_gets_the_arguments_that_are_of_their_types():
    def tool(n: int, day: date = date(2024, 1, 1)): ...

    assert written_back(tool, {"n": 5}, strict=True) == {"n": 5, "day": "2024-01-01"}
    for odd in ("5", True, 5.5, None):
        with pytest.raises(ArgumentsRefusedError) as refused:
            written_back(tool, {"n": odd}, strict=True)
        assert refused.value.parameter == "n"


def test_parameter_with_an_alias_is_named_by_it():
    def tool(rows: Annotated[int, Field(alias="maxRows")] = 10): ...

    assert written_back(tool, {}, strict=False) == {"maxRows": 10}
    assert written_back(tool, {"maxRows": 5}, strict=False) == {"maxRows": 5}
