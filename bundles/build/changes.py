"""A change of a text, as the operators of mutation make it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit.

    Attributes:
        operator: which kind of change it is.
        start: where the text that is replaced begins.
        end: where it ends.
        text: what stands there instead.
        label: before and after for people, where the texts themselves would say less.
    """

    operator: str
    start: int
    end: int
    text: str
    label: tuple[str, str] | None = None
