"""Reads an app's id from the user's source, without running it.

The id stands in the keys that the worker's role is fenced by, so it must be known when the stack is synthesized.
Importing the user's module would need its dependencies and run its side effects on the machine that deploys; the
syntax tree does not. The id that was read is checked against the worker's own manifest when the app is registered.
"""

from __future__ import annotations

import ast
from pathlib import Path

_CONSTRUCTOR = "Stepwell"


def read_app_id(code: Path, app: str, *, into: str = "") -> str:
    """The id in ``name = Stepwell("id")`` of the app ``"module:name"`` in the directory ``code``.

    Raises ``ValueError``, saying how to pass the id instead, if the module has no such plain assignment.
    """
    module, _, name = app.partition(":")
    if not module or not name:
        raise ValueError(f'app must be "module:name", for example "shop.app:app", not {app!r}')
    parts = module.split(".")
    if into:
        prefix = into.split("/")
        if parts[: len(prefix)] != prefix:
            raise ValueError(f"{app!r} is not under {into!r}, where the code is put")
        parts = parts[len(prefix) :]
    base = code.joinpath(*parts)
    file = next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.is_file()), None)
    if file is None:
        raise ValueError(f"there is no module for {app!r} in {code}: check code= and app=")
    for node in ast.parse(file.read_text(encoding="utf-8"), str(file)).body:
        if isinstance(node, ast.Assign):
            targets: list[ast.expr] = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            found = _literal_id(node.value)
            if found is not None:
                return found
            break
    raise ValueError(
        f'cannot read the id of {app!r} in {file}: no plain {name} = Stepwell("id") there. Pass app_id= as well.'
    )


def _literal_id(value: ast.expr | None) -> str | None:
    if not isinstance(value, ast.Call):
        return None
    called = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", None)
    if called != _CONSTRUCTOR:
        return None
    candidates = [*value.args[:1], *(keyword.value for keyword in value.keywords if keyword.arg == "id")]
    first = candidates[0] if candidates else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else None
