"""Options of decoding methods on the command line."""

from typing import Any

from moe_asr.errors import ConfigError


def parse_options(settings: list[str], methods: list[str]) -> dict[str, dict[str, Any]]:
    """``METHOD.NAME=VALUE`` settings as options by method; `ConfigError` on any other form."""
    import yaml

    options: dict[str, dict[str, Any]] = {name: {} for name in methods}
    for setting in settings:
        target, equals, value = setting.partition("=")
        method, dot, name = target.partition(".")
        if not (equals and dot and name) or method not in options:
            raise ConfigError(
                f"--option {setting}: expected METHOD.NAME=VALUE with METHOD one of "
                f"{', '.join(methods)}"
            )
        try:
            options[method][name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--option {setting}: {value!r} is not a YAML value") from error
    return options
