"""Any pydantic model over a document: the model, or every problem at once. Changes nothing, starts nothing."""

import json
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from gateway.config.document import Document
from gateway.config.translate import problems_of
from gateway.foundation.errors import InvalidFile, Problem

Model = TypeVar("Model", bound=BaseModel)


def validate(document: Document, model: type[Model], context: Mapping[str, object] | None = None) -> Model:
    """Raises InvalidFile with the problems of the document and of the model, in the order of their lines.

    What YAML gave is what JSON can say, so pydantic reads it as JSON: strict models take a list for a tuple or a set,
    and convert nothing else.
    """
    problems = list(document.problems)
    try:
        checked = model.model_validate_json(json.dumps(document.content), context=dict(context or {}))
    except ValidationError as error:
        problems += problems_of(error, document, model)
    if problems:
        raise InvalidFile(sorted(problems, key=_order))
    return checked


def _order(problem: Problem) -> tuple[int, int]:
    return (problem.line or 0, problem.column or 0)
