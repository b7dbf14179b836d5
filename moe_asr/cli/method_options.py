"""Options of decoding methods on the command line."""

import dataclasses
from typing import Any

from moe_asr.errors import ConfigError

ALL = "all"


def parse_options(settings: list[str], methods: list[str]) -> dict[str, dict[str, Any]]:
    """``METHOD.NAME=VALUE`` settings as options by method; `ConfigError` on any other form.

    ``all.NAME=VALUE`` is for every one of the methods that has the option; one must. What is said of one
    method alone goes before.
    """
    import yaml

    from moe_asr.decode.registry import get_method

    options: dict[str, dict[str, Any]] = {name: {} for name in methods}
    common: dict[str, Any] = {}
    for setting in settings:
        target, equals, value = setting.partition("=")
        method, dot, name = target.partition(".")
        if not (equals and dot and name) or (method != ALL and method not in options):
            raise ConfigError(
                f"--option {setting}: expected METHOD.NAME=VALUE with METHOD one of "
                f"{', '.join((*methods, ALL))}"
            )
        try:
            (common if method == ALL else options[method])[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--option {setting}: {value!r} is not a YAML value") from error
    for name, value in common.items():
        having = [
            method
            for method in methods
            if name in {field.name for field in dataclasses.fields(get_method(method).options_type)}
        ]
        if not having:
            raise ConfigError(f"--option all.{name}: no method has such an option")
        for method in having:
            options[method].setdefault(name, value)
    return options


def parse_grids(settings: list[str], methods: list[str]) -> dict[str, dict[str, list[float]]]:
    """``METHOD.NAME=V1,V2,...`` or ``METHOD.NAME`` settings as values by method and name.

    Raises:
        ConfigError: on any other form.
    """
    grids: dict[str, dict[str, list[float]]] = {}
    for setting in settings:
        target, equals, values = setting.partition("=")
        method, _, name = target.partition(".")
        grid = grids.setdefault(method, {})
        if method not in methods or not name or name in grid or (equals and not values):
            raise ConfigError(
                f"--grid {setting}: expected METHOD.NAME=V1,V2,..., or METHOD.NAME for the usual values, "
                f"with METHOD one of {', '.join(methods)}"
            )
        try:
            grid[name] = [float(value) for value in values.split(",")] if equals else []
        except ValueError:
            raise ConfigError(f"--grid {setting}: {values!r} are not numbers") from None
    return grids
