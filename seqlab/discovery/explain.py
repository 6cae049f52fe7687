"""Errors of OmegaConf as one line that names the key."""

import re

from omegaconf import OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from seqlab.discovery.registry import one_line
from seqlab.discovery.suggest import keys_of, no_such_key

_TYPES = {
    "int": "a whole number", "Integer": "a whole number", "float": "a number", "Float": "a number",
    "bool": "true or false", "Boolean": "true or false", "str": "a text", "String": "a text",
}  # fmt: skip
_CONVERTED = re.compile(r"Value '(.*)' (?:of type '\w+' could not be converted to|is not a valid) (\w+).*", re.DOTALL)
_CONTAINER = re.compile(r"Cannot convert '\w+' to string: '(.*)'", re.DOTALL)
_WRITTEN = {"True": "true", "False": "false", "None": "null"}


def explain_omegaconf(error: OmegaConfBaseException) -> str:
    """Write an error of OmegaConf as one line, without types of Python."""
    key, message = error.full_key or "", str(error).partition("\n")[0]
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and key:
        return _unknown_key(error)
    if isinstance(error, MissingMandatoryValue):
        return f"{key or 'a key'} is ???, which stands for a missing value; set it"
    if isinstance(error, InterpolationResolutionError):
        reason = re.sub(r"^\w+ raised while resolving interpolation: ", "", message)
        return f"{key}: the interpolation cannot be resolved: {reason}" if key else one_line(message)
    if isinstance(error, ValidationError):
        return _wrong_type(key, message)
    return f"{key}: {message[:1].lower()}{message[1:]}" if key else message


def _wrong_type(key: str, message: str) -> str:
    where = key or "a value"
    if (found := _CONVERTED.fullmatch(message)) and found[2] in _TYPES:
        return f"{where} must be {_TYPES[found[2]]}, got {_WRITTEN.get(found[1], found[1])}"
    if found := _CONTAINER.fullmatch(message):
        return f"{where} must be a text, got {found[1]}"
    if found := re.fullmatch(r"Cannot assign \w+ to (Dict|List)\[.*", message):
        return f"{where} must be a {'mapping of keys to values' if found[1] == 'Dict' else 'list'}"
    if found := re.fullmatch(r"Merge error: \w+ is not a subclass of .*\. value: (.*)", message, re.DOTALL):
        return f"{where} must be a mapping of keys to values, got {found[1]}"
    if "is not Optional" in message or "'None'" in message:
        return f"{where} must not be null"
    return f"{where}: {message[:1].lower()}{message[1:]}"


def _unknown_key(error: OmegaConfBaseException) -> str:
    key, parent = error.full_key or "", error.parent_node
    if parent is None or not hasattr(parent, "keys"):
        return one_line(str(error).partition("\n")[0])
    root = parent._get_root()
    known = keys_of(OmegaConf.to_container(root, resolve=False)) if OmegaConf.is_dict(root) else []  # type: ignore[arg-type]  # a mapping is one
    if not key.startswith("hydra."):
        known = [each for each in known if each.partition(".")[0] != "hydra"]
    prefix = key.rpartition(".")[0]
    return no_such_key(key, known or [f"{prefix}.{name}".lstrip(".") for name in parent])
