"""Export and import of a whole registry as one YAML document.

The document is for people: to review, to keep under version control, to move a registry. Its fields
are in `document.schema.json`. It holds no secrets: tokens are digests, keys are names.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml
from jsonschema import Draft202012Validator

from lictor_common.text import token_label
from lictor_common.version import RegistryVersion
from registry.exceptions import InvalidDocumentError
from registry.model import RECORD_TYPES, Record, Setting, Token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema import ValidationError

    from registry.interface import Registry

VERSION = 1

_MERGE = "tag:yaml.org,2002:merge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A completed import: the document's number of records, and the resulting state."""

    records: int
    version: RegistryVersion


async def export_document(registry: Registry, *, actor: str) -> str:
    """Export the registry as YAML: the same records give the same text, sorted by id.

    Writers wait during the export, so that it holds one state on every store.
    """
    document: dict[str, Any] = {"version": VERSION}
    async with registry.transaction(actor=actor, action="registry export") as tx:
        for type_ in RECORD_TYPES:
            records = await tx.all(type_)
            if type_ is Setting:
                document[type_.kind.value] = {
                    r.ref.id: r.value for r in records if isinstance(r, Setting)
                }
            else:
                document[type_.kind.value] = [asdict(record) for record in records]
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


async def import_document(registry: Registry, text: str, *, actor: str) -> Imported:
    """Store all records of a document, or none.

    An existing record is replaced; one that the document does not name is unchanged. A field that a
    record omits gets the schema's default, not its former value; an omitted setting is unchanged.

    Args:
        registry: the registry to write.
        text: YAML without aliases and duplicate keys.
        actor: the actor of the import, for the change log.

    Raises:
        InvalidDocumentError: the text does not fit the schema, or has a record twice.
        InvalidRecordError: a field fits the schema, but is invalid.
        NotFoundError: a record names another that is neither in the document nor in the registry.
    """
    records = list(_records(_parsed(text)))
    async with registry.transaction(actor=actor, action="registry import") as tx:
        await tx.put(*records)
    return Imported(records=len(records), version=tx.version)


def _parsed(text: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "document"
        raise InvalidDocumentError(place, error.problem or "is not YAML") from error
    except yaml.YAMLError as error:
        raise InvalidDocumentError("document", "has characters that YAML does not allow") from error
    except (RecursionError, ValueError) as error:
        raise InvalidDocumentError("document", "has a value that cannot be read") from error
    if fault := min(_validator().iter_errors(document), key=_where, default=None):
        raise _invalid(fault)
    return document


def _records(document: dict[str, Any]) -> Iterator[Record]:
    """Yield the document's records, each after those that it may name."""
    for type_ in RECORD_TYPES:
        kind = type_.kind.value
        if type_ is Setting:
            for name, value in document.get(kind, {}).items():
                yield Setting(name=name, value=value)
            continue
        seen = set()
        for index, item in enumerate(document.get(kind, [])):
            fields = {name: tuple(v) if isinstance(v, list) else v for name, v in item.items()}
            if type_ is Token:
                fields.setdefault("label", token_label(item["digest"]))
            record = type_(**fields)
            if record.ref in seen:
                raise InvalidDocumentError(f"{kind}[{index}]", f"has the {type_.key} of another")
            seen.add(record.ref)
            yield record


@cache
def _validator() -> Draft202012Validator:
    text = files(__package__).joinpath("document.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


def _where(fault: ValidationError) -> str:
    return fault.json_path


def _invalid(fault: ValidationError) -> InvalidDocumentError:
    """Return the error without the invalid value, which may be a misplaced bearer."""
    path = fault.json_path.removeprefix("$").removeprefix(".")
    instance: Any = fault.instance
    schema: Any = fault.schema
    rule: Any = fault.validator_value
    match fault.validator:
        case "additionalProperties":
            known = schema["properties"]
            unknown = min(str(name) for name in instance if name not in known)
            return InvalidDocumentError(
                f"{path}.{unknown}".removeprefix("."), "is not a field here"
            )
        case "required":
            missing = min(name for name in rule if name not in instance)
            return InvalidDocumentError(f"{path}.{missing}".removeprefix("."), "is missing")
        case keyword:
            reason = f"does not satisfy {keyword} {json.dumps(rule)}"
            return InvalidDocumentError(path or "document", reason)


class _Loader(yaml.SafeLoader):
    """YAML restricted to JSON's model: no aliases (which can expand to gigabytes), unique keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not used here", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                problem = "a key is not plain text"
            elif key.value in seen:
                problem = "a key is twice in one mapping"
            else:
                seen.add(key.value)
                continue
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True
