"""Base bundles, one shard at a time, away from the event loop that serves the others.

A record in a base is its JSON in a string, which takes OPA a third of the memory of an object, and
which Go's garbage collector does not walk. A base that is not `packed` holds objects, for rules of
an older version, which do not decode records.

A large shard is made in a process of its own: parsing and writing megabytes of JSON would hold the
interpreter's lock, and with it every revocation, for a tenth of a second.
"""

import io
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import anyio
import anyio.to_process
import anyio.to_thread
import orjson
from typing_extensions import TypeVarTuple, Unpack

from bundles.publish.records import REFUSED_LIBRARY, find_problem
from bundles.publish.signing import Bundle, SigningKey, canonical_records, data_of, sign
from registry import Kind, Ref

Header: TypeAlias = Mapping[str, Any]
"""`epoch`, `revision` and `head`: the state of the registry that a bundle holds."""
Records: TypeAlias = Mapping[Ref, dict[str, Any] | None]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_NICE = 5
"""Below the processes that serve and decide. At 10, a read of everything did not finish on a busy
machine within its limit of ten minutes."""

_PACKED_FROM = b'{"encoding":"json"'
"""The beginning of a base with packed records, as the keys are in order."""

_KINDS = {kind.value: kind for kind in Kind}

_OFFLOAD_FROM = 1 << 20
"""Bytes of input from which on a process of its own is worth its start."""


async def run_offloaded(size: int, job: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
    """Run a job in a thread, or in a process of its own where `size` bytes would keep it long."""
    if size < _OFFLOAD_FROM:
        return await anyio.to_thread.run_sync(job, *args)
    return await run_in_process(job, *args)


async def run_in_process(job: Callable[[Unpack[Ts]], T], *args: *Ts) -> T:
    """Run a job in a process of its own that gives way to all others."""
    return await anyio.to_process.run_sync(_nicely, job, args, cancellable=True)


def _nicely(job: Callable[[Unpack[Ts]], T], args: tuple[*Ts]) -> T:
    os.nice(max(0, _NICE - os.nice(0)))
    return job(*args)


def compact(
    content: bytes, *, shard: str, header: Header, changes: Records, key: SigningKey, packed: bool
) -> Bundle:
    """A base bundle with later changes laid over it, as the registry is at `header`."""
    document = _document(content, shard)
    _lay(document, changes)
    return _base(shard, header, document, key, packed=packed)


def build(
    spool: Path, *, shard: str, header: Header, changes: Records, key: SigningKey, packed: bool
) -> Bundle:
    """A base bundle of what a scan has spooled, with later changes laid over it."""
    document: dict[str, Any] = {}
    for ref, record in read_spool(spool).items():
        document.setdefault(ref.kind.value, {})[ref.id] = record
    _lay(document, changes)
    return _base(shard, header, document, key, packed=packed)


def is_packed(content: bytes) -> bool:
    """Return whether a base holds its records as JSON in strings. Reads only its beginning."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r|gz") as tar:
        for member in tar:
            file = tar.extractfile(member)
            if member.name.endswith("/data.json") and file is not None:
                return file.read(len(_PACKED_FROM)) == _PACKED_FROM
    return False


@dataclass(frozen=True, slots=True)
class Difference:
    """The differences between the registry and the published records, in one shard.

    Attributes:
        refs: the records that differ.
        gone: those of them that were published and no longer exist.
        damaged: those of them that no publisher can have published so, and why.
        published: kind to how many are published.
    """

    refs: list[Ref] = field(default_factory=list)
    gone: list[Ref] = field(default_factory=list)
    damaged: dict[Ref, str] = field(default_factory=dict)
    published: Counter[Kind] = field(default_factory=Counter)


def compare(content: bytes, spool: Path, shard: str, changes: Records) -> Difference:
    """Compare what is published of a shard, a base and `live`, with what a scan has spooled."""
    before = _decoded(_document(content, shard))
    now: dict[str, Any] = {}
    _lay(before, changes)
    _lay(now, read_spool(spool))
    difference = Difference()
    for kind in Kind:
        published, current = before.get(kind, {}), now.get(kind, {})
        for id_ in published.keys() | current.keys():
            was, is_ = published.get(id_), current.get(id_)
            difference.published[kind] += was is not None
            if was != is_:
                ref = Ref(kind, id_)
                difference.refs.append(ref)
                if is_ is None:
                    difference.gone.append(ref)
                if isinstance(was, _Undecodable):
                    difference.damaged[ref] = f"{ref}: its text in base-{shard} is not JSON"
                elif was != REFUSED_LIBRARY and (problem := find_problem(ref, was)):
                    difference.damaged[ref] = f"{problem} (in base-{shard})"
    return difference


def spool_line(ref: Ref, record: dict[str, Any] | None) -> bytes:
    """A record as one line of a spool; the last line of a record is the one that counts."""
    return orjson.dumps([ref.kind.value, ref.id, record], option=orjson.OPT_APPEND_NEWLINE)


def read_spool(spool: Path) -> dict[Ref, dict[str, Any] | None]:
    """The records of a spool."""
    records = {}
    with spool.open("rb") as lines:
        for line in lines:
            kind, id_, record = orjson.loads(line)
            records[Ref(_KINDS[kind], id_)] = record
    return records


class _Undecodable(str):
    """The text of a record that is not JSON."""

    __slots__ = ()


def _document(content: bytes, shard: str) -> dict[str, Any]:
    """Return the records of a base bundle as they are in it, by kind and id."""
    document = data_of(content)["registry"]["base"][shard]
    return {kind.value: document[kind] for kind in Kind if kind in document}


def _lay(document: dict[str, Any], records: Records) -> None:
    for ref, record in records.items():
        if record is None:
            # Below a base no older record could reappear, so an absent one need not be marked.
            document.get(ref.kind, {}).pop(ref.id, None)
        else:
            document.setdefault(ref.kind.value, {})[ref.id] = record


def _decoded(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        kind: {id_: _unpack(record) for id_, record in records.items()}
        for kind, records in document.items()
    }


def _unpack(record: Any) -> Any:
    if not isinstance(record, str):
        return record
    try:
        return orjson.loads(record)
    except ValueError:
        return _Undecodable(record)


def _pack(record: Any) -> str | None:
    """The record as text; None stands for a record that was refused, or is not an object."""
    if isinstance(record, str):
        return record
    return canonical_records(record).decode() if isinstance(record, dict) else None


def _base(
    shard: str, header: Header, document: Mapping[str, Any], key: SigningKey, *, packed: bool
) -> Bundle:
    if packed:
        document = {
            kind: {id_: _pack(record) for id_, record in records.items()}
            for kind, records in document.items()
        }
        header = {"encoding": "json", **header}
    else:
        document = _decoded(document)
    return sign(
        f"base-{shard}",
        revision=f"{header['epoch']}:{header['revision']}",
        roots=[f"registry/base/{shard}"],
        key=key,
        data=canonical_records({**document, **header}),
        path=f"registry/base/{shard}",
        level=1,
    )
