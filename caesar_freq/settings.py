"""Settings of the workflow against their schema: every error is one sentence with the way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

import jsonschema

from caesar_freq.errors import ConfigError

# YAML 1.1 reads 1e-4, which has no dot, as text.
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def validated(config: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Check `config` and fill in the defaults of `schema`.

    Parameters
    ----------
    config : mapping
        As read from YAML; left as it is.
    schema : mapping
        JSON schema, draft 2020-12.

    Raises
    ------
    ConfigError
        Naming the key, its value and what is possible.
    """
    complete = _numbers(config)
    checker = jsonschema.validators.extend(
        jsonschema.Draft202012Validator, {"properties": _properties_with_defaults}
    )(schema)
    error = next(checker.iter_errors(complete), None)
    if error is not None:
        raise ConfigError(_sentence(error))
    return complete


def _numbers(value: Any) -> Any:
    """Copy of nested `value` in which text such as ``1e-4`` is a number."""
    if isinstance(value, Mapping):
        return {str(key): _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def _properties_with_defaults(validator, subschemas, instance, schema):
    if isinstance(instance, dict):
        for name, subschema in subschemas.items():
            if "default" in subschema:
                instance.setdefault(name, subschema["default"])
    yield from jsonschema.Draft202012Validator.VALIDATORS["properties"](
        validator, subschemas, instance, schema
    )


def _sentence(error: jsonschema.ValidationError) -> str:
    """Where, what, and the way out."""
    place = [str(part) for part in error.absolute_path]
    known = list(error.schema.get("properties", ()))
    if error.validator == "additionalProperties":
        unknown = next(key for key in error.instance if key not in known)
        near = difflib.get_close_matches(unknown, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known keys are {', '.join(known)}"
        return f"key {'.'.join([*place, unknown])} is unknown; {hint}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"key {'.'.join([*place, missing])} is missing; add it, as in config/config.yaml"
    key = ".".join(place) or "datasets"
    if error.validator == "oneOf":
        return f"key {key} must have either source or files; give exactly one of the two"
    reason = error.message if len(error.message) < 200 else f"{error.validator} is violated"
    meaning = error.schema.get("description")
    return f"key {key}: {reason}" + (f" ({meaning})" if meaning else "") + "; change the value"
