"""Reading IAM from a template, and deciding as IAM does whether a role may make a call."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .conftest import Template

LEADING_KEYS = "dynamodb:LeadingKeys"


@dataclass(frozen=True)
class Statement:
    """One statement that allows something. Resources are spelled like `StepwellTable0EF42FC2.Arn/index/due`."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def partitions(self) -> tuple[str, ...] | None:
        """The partition keys it is fenced to, as patterns; None: all."""
        fence = self.conditions.get("ForAllValues:StringLike", {}).get(LEADING_KEYS)
        if fence is None:
            return None
        return (fence,) if isinstance(fence, str) else tuple(fence)

    def allows(self, action: str, resource: str, keys: Sequence[str] = ()) -> bool:
        """Whether it allows `action` on `resource` with these partition keys."""
        named = any(_like(action, pattern) for pattern in self.actions)
        placed = any(_like(resource, pattern) for pattern in self.resources)
        fenced = self.partitions is None or all(any(_like(key, p) for p in self.partitions) for key in keys)
        return named and placed and fenced


def statements_of(template: Template, role: str) -> list[Statement]:
    """What the role whose logical id begins with `role` is allowed by its own policies."""
    id = template.id("AWS::IAM::Role", role)
    found = []
    for policy in template.of_type("AWS::IAM::Policy").values():
        if {"Ref": id} in policy["Roles"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                assert statement["Effect"] == "Allow"
                found.append(
                    Statement(
                        tuple(_listed(statement["Action"])),
                        tuple(spell(resource) for resource in _listed(statement["Resource"])),
                        statement.get("Condition", {}),
                    )
                )
    return found


def allowed(statements: Iterable[Statement], action: str, resource: str, keys: Sequence[str] = ()) -> bool:
    """Whether any of the statements allows the call."""
    return any(statement.allows(action, resource, keys) for statement in statements)


def spell(value: Any) -> str:
    """A resource of a template as text: references by logical id, imports by the name of the export."""
    if isinstance(value, str):
        return value
    ((function, argument),) = value.items()
    if function == "Fn::GetAtt":
        return ".".join(argument)
    if function == "Fn::Join":
        separator, parts = argument
        return str(separator).join(spell(part) for part in parts)
    return str(argument)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _like(text: str, pattern: str) -> bool:
    """IAM's StringLike: `*` any text, `?` one character, all else literal."""
    escaped = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch(escaped, text, re.DOTALL) is not None
