"""From pydantic's errors to problems in the user's words.

A message never repeats a text that it found, since that may be a secret put in the wrong place; the line and column
lead to it. Validators of ours may name one in a message where it can't be a secret.
"""

import difflib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from gateway.config.document import Document, Mark, Path, Plain, dotted
from gateway.foundation.errors import Problem

_MESSAGES = {
    "extra_forbidden": "is not known here",
    "string_type": "needs a text, but is {given}",
    "int_type": "needs a whole number, but is {given}",
    "bool_type": "needs true or false, but is {given}",
    "none_required": "must be empty, but is {given}",
    "list_type": "needs a list, but is {given}",
    "tuple_type": "needs a list, but is {given}",
    "set_type": "needs a list, but is {given}",
    "frozen_set_type": "needs a list, but is {given}",
    "dict_type": "needs a mapping, but is {given}",
    "model_type": "needs a mapping, but is {given}",
    "model_attributes_type": "needs a mapping, but is {given}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "is too short: it needs at least {min_length} characters",
    "string_too_long": "is too long: it may have at most {max_length} characters",
    "string_pattern_mismatch": "does not have the form {pattern}",
    "too_short": "needs at least {min_length} entries, but has {actual_length}",
    "too_long": "may have at most {max_length} entries, but has {actual_length}",
    "union_tag_not_found": "must be one of {expected_tags}",
    "union_tag_invalid": "must be one of {expected_tags}",
    "value_error": "{error}",
    "assertion_error": "{error}",
}
_WRONG_KIND = frozenset(kind for kind, message in _MESSAGES.items() if "but is {given}" in message)


def wrong(message: str, at: str = "", hint: str = "") -> PydanticCustomError:
    """What a validator raises to say more than a ValueError can: which member is wrong, and what to do about it."""
    return PydanticCustomError("wrong", "{message}", {"message": message, "at": at, "hint": hint})


def problems_of(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Problem]:
    """One problem for each mistake, none for a value that the document has a problem with already."""
    found = [_Located(details, document) for details in error.errors(include_url=False)]
    chosen = itertools.chain.from_iterable(_one_alternative(group) for group in _by_place(found))
    return [
        located.problem(document, model)
        for located in chosen
        if not any(located.path[: len(path)] == path for path in document.suspect)
    ]


class _Located:
    """An error with its path in the document; `alternative` says which member of a union it comes from."""

    def __init__(self, details: ErrorDetails, document: Document) -> None:
        self.details = details
        self.path: Path = ()
        self.union: Path | None = None
        self.alternative = ""
        location = details["loc"]
        self._walk(document.content, location[:-1] if details["type"] == "missing" else location)
        if details["type"] == "missing":
            self.path += location[-1:]
        elif at := details.get("ctx", {}).get("at"):
            self.path += (at,)

    def _walk(self, value: Plain, location: Path) -> None:
        """Pydantic's location mixes keys of the document with names of union members and of validators: what leads
        down the document is a key, the first other part names the alternative."""
        for part in location:
            if isinstance(value, dict) and part in value:
                value = value[str(part)]
                self.path += (part,)
            elif isinstance(value, list) and isinstance(part, int):
                value = value[part]
                self.path += (part,)
            elif self.union is None:
                self.union, self.alternative = self.path, str(part)

    def problem(self, document: Document, model: type[BaseModel]) -> Problem:
        path = dotted(self.path)
        return Problem(self._message(), path, self._hint(model), document.file, *self._mark(document, path))

    def _mark(self, document: Document, path: str) -> Mark:
        match self.details["type"]:
            case "missing":
                parent = dotted(self.path[:-1])
                return document.keys.get(parent) or document.place(parent)
            case "extra_forbidden":
                return document.keys.get(path) or document.place(path)
            case _:
                return document.place(path)

    def _message(self) -> str:
        details = self.details
        if details["type"] == "missing":
            return "is missing"
        context: dict[str, Any] = {"given": _describe(details["input"]), **details.get("ctx", {})}
        template = _MESSAGES.get(details["type"])
        return template.format(**context) if template else details["msg"]

    def _hint(self, model: type[BaseModel]) -> str:
        details, name = self.details, str(self.path[-1]) if self.path else ""
        given = details["input"]
        match details["type"]:
            case kind if kind in _WRONG_KIND and given is None:
                return "fill it in, or remove the line"
            case "extra_forbidden":
                return _nearest(name, sorted(_fields_at(model, self.path[:-1])))
            case "literal_error" | "enum" if isinstance(given, str):
                return _nearest(given, details["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", "))
            case "string_type" if isinstance(given, bool | int):
                return f'quote it: "{_describe(given)}"'
            case "int_type" if isinstance(given, str):
                return "write the number without quotes and without a unit"
            case "list_type" | "tuple_type" | "set_type" | "frozen_set_type" if isinstance(given, str):
                return "put it in brackets: [ … ]"
            case _:
                return str(details.get("ctx", {}).get("hint", ""))


def _describe(value: object) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "a mapping"


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"known here: {', '.join(known)}" if known else ""


def _by_place(found: Iterable[_Located]) -> Iterator[list[_Located]]:
    """Errors that members of one union found stand together; every other error for itself."""
    unions: dict[Path, list[_Located]] = {}
    for located in found:
        if located.union is None:
            yield [located]
        else:
            unions.setdefault(located.union, []).append(located)
    yield from unions.values()


def _one_alternative(group: list[_Located]) -> list[_Located]:
    """Of a value that could be several things, complain as the one that it was meant to be: one whose kind (text, list,
    mapping) fits, and of those the one with the fewest mistakes."""
    alternatives: dict[str, list[_Located]] = {}
    for located in group:
        alternatives.setdefault(located.alternative, []).append(located)
    return min(alternatives.values(), key=lambda errors: (any(_is_wrong_kind(error) for error in errors), len(errors)))


def _is_wrong_kind(located: _Located) -> bool:
    return located.path == located.union and located.details["type"] in _WRONG_KIND


def _fields_at(model: type[BaseModel], path: Path) -> set[str]:
    """The keys that could stand at `path`, over all members of unions."""
    models = [model]
    for part in path:
        fields = [found for candidate in models if (found := _field(candidate, part)) is not None]
        if fields:
            models = [found for annotation in fields for found in _models_in(annotation)]
    return {info.alias or name for candidate in models for name, info in candidate.model_fields.items()}


def _field(model: type[BaseModel], part: str | int) -> object:
    members = model.model_fields.items()
    return next((info.annotation for name, info in members if part in (name, info.alias)), None)


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
