"""Azure's template language, as much of it as templates for one VM need: parameters, variables, ``concat``, ``resourceId``.

Pure. Anything else is refused as Azure refuses what it does not know, with ``InvalidTemplate``; so is a parameter that is missing,
not declared or of another type. A text that begins with ``[`` is an expression, ``[[`` stands for the bracket itself
(https://learn.microsoft.com/azure/azure-resource-manager/templates/template-expressions).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .refusal import Refusal

Json = dict[str, Any]

TYPES: dict[str, type] = {"string": str, "object": dict, "int": int, "bool": bool, "array": list}
_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z][\w]*)|'(?P<text>(?:[^']|'')*)'|(?P<mark>[(),]))")


@dataclass(frozen=True)
class Scope:
    subscription: str
    group: str


def invalid(reason: str) -> Refusal:
    return Refusal(400, "InvalidTemplate", f"Deployment template validation failed: '{reason}'.")


def not_processed(reason: str) -> Refusal:
    return Refusal(
        400,
        "InvalidTemplate",
        f"Unable to process template language expressions in the template. '{reason} Please see https://aka.ms/arm-functions for "
        "usage details.'",
    )


@dataclass(frozen=True)
class Evaluator:
    parameters: Mapping[str, Any]
    variables: Mapping[str, Any]
    scope: Scope

    def value(self, given: Any) -> Any:
        """``given`` with every expression in it replaced by what it stands for."""
        if isinstance(given, dict):
            return {key: self.value(inner) for key, inner in given.items()}
        if isinstance(given, list):
            return [self.value(inner) for inner in given]
        if isinstance(given, str) and given.startswith("[["):
            return given[1:]
        if isinstance(given, str) and given.startswith("[") and given.endswith("]"):
            return self._expression(given[1:-1])
        return given

    def _expression(self, text: str) -> Any:
        tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text.rstrip()):
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise not_processed(f"The template language expression '{text}' is not valid at position {at}.")
            tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
        found, rest = self._parsed(tokens, text)
        if rest:
            raise not_processed(f"The template language expression '{text}' is not valid: it goes on after its end.")
        return found

    def _parsed(self, tokens: list[tuple[str, str]], text: str) -> tuple[Any, list[tuple[str, str]]]:
        if not tokens:
            raise not_processed(f"The template language expression '{text}' is not valid: it ends too early.")
        (kind, word), rest = tokens[0], tokens[1:]
        if kind == "text":
            return word.replace("''", "'"), rest
        if kind != "name" or rest[:1] != [("mark", "(")]:
            raise not_processed(f"The template language expression '{text}' is not valid at '{word}'.")
        rest, arguments = rest[1:], []
        while rest[:1] != [("mark", ")")]:
            argument, rest = self._parsed(rest, text)
            arguments.append(argument)
            if rest[:1] == [("mark", ",")]:
                rest = rest[1:]
            elif rest[:1] != [("mark", ")")]:
                raise not_processed(f"The template language expression '{text}' is not valid: a ')' is missing.")
        return self._call(word, arguments), rest[1:]

    def _call(self, function: str, arguments: list[Any]) -> Any:
        if not all(isinstance(a, str) for a in arguments):
            raise not_processed(f"The template function '{function}' expects its parameters to be strings.")
        name = function.lower()
        if name == "concat" and arguments:
            return "".join(arguments)
        if name in ("parameters", "variables") and len(arguments) == 1:
            known = self.parameters if name == "parameters" else self.variables
            if arguments[0] not in known:
                raise not_processed(f"The template {name[:-1]} '{arguments[0]}' is not found.")
            return known[arguments[0]]
        if name == "resourceid" and len(arguments) >= 2:
            return resource_id(self.scope, arguments[0], arguments[1:])
        raise not_processed(f"The template function '{function}' is not valid.")


def resource_id(scope: Scope, kind: str, names: list[str]) -> str:
    provider, *types = kind.split("/")
    if len(types) != len(names):
        raise not_processed(f"The template function 'resourceId' is not valid: '{kind}' needs {len(types)} names.")
    path = "/".join(f"{t}/{n}" for t, n in zip(types, names, strict=True))
    return f"/subscriptions/{scope.subscription}/resourceGroups/{scope.group}/providers/{provider}/{path}"


def evaluated(template: Any, given: Any, scope: Scope) -> list[Json]:
    """The template's resources with nothing left to evaluate. Raises ``Refusal``."""
    if not isinstance(template, dict) or not isinstance(template.get("resources"), list):
        raise invalid("The template has no 'resources'")
    unknown = set(template) - {"$schema", "contentVersion", "parameters", "variables", "resources", "outputs"}
    if unknown:
        raise invalid(f"Could not find member '{sorted(unknown)[0]}' on object of type 'Template'")
    for member in ("$schema", "contentVersion"):
        if not isinstance(template.get(member), str):
            raise invalid(f"Required property '{member}' not found in JSON")
    parameters = _parameters(template.get("parameters") or {}, given or {})
    variables: Json = {}
    for name, value in (template.get("variables") or {}).items():
        variables[name] = Evaluator(parameters, variables, scope).value(value)
    evaluator = Evaluator(parameters, variables, scope)
    evaluator.value(template.get("outputs") or {})
    found = []
    for row in template["resources"]:
        if not isinstance(row, dict) or not all(isinstance(row.get(k), str) for k in ("type", "apiVersion", "name")):
            raise invalid("The template resource has no 'type', 'apiVersion' or 'name'")
        found.append(evaluator.value(row))
    return found


def _parameters(declared: Any, given: Any) -> Json:
    found: Json = {}
    for name, what in declared.items():
        kind = str(what.get("type", "")).lower()
        if kind not in TYPES:
            raise invalid(f"Template parameter JToken type is not valid. The type '{kind}' of '{name}' is not known")
        value = (given.get(name) or {}).get("value") if isinstance(given.get(name), dict) else None
        if value is None:
            raise invalid(f"The value for the template parameter '{name}' is not provided")
        if not isinstance(value, TYPES[kind]) or (kind == "int" and isinstance(value, bool)):
            raise invalid(
                f"The provided value for the template parameter '{name}' is not valid. Expected a value of type '{kind}'"
            )
        found[name] = value  # never evaluated, whatever it begins with
    for name in given:
        if name not in declared:
            raise invalid(
                "The following parameters were supplied, but do not correspond to any parameters defined in the template: "
                f"'{name}'"
            )
    return found


def in_order(resources: list[Json], scope: Scope) -> list[tuple[str, Json]]:
    """(id, resource) so that each comes after what it depends on. Raises ``Refusal`` for a circle or an unknown dependency."""
    by_id = {resource_id(scope, r["type"], r["name"].split("/")).lower(): r for r in resources}
    if len(by_id) != len(resources):
        raise invalid("The resource is defined multiple times in a template")
    ids = {key: resource_id(scope, r["type"], r["name"].split("/")) for key, r in by_id.items()}
    ordered: list[str] = []

    def visit(key: str, above: tuple[str, ...]) -> None:
        if key in above:
            raise invalid("Circular dependency detected on resource")
        if key in ordered:
            return
        for other in by_id[key].get("dependsOn") or ():
            if str(other).lower() not in by_id:
                raise invalid(f"The resource '{other}' is not defined in the template")
            visit(str(other).lower(), (*above, key))
        ordered.append(key)

    for key in by_id:
        visit(key, ())
    return [(ids[key], by_id[key]) for key in ordered]
