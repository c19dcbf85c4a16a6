"""`--config file.toml` and `--print-config`: a command's options in a file.

A file has the names of options as the command line has them, `batch-size = 64`, with _ for - where one likes. What
stands on the command line goes before what the file says, and that before the defaults.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from xcnn.core.names import meant
from xcnn.errors import DataError, OptionError, short

OWN = ("config", "print_config", "help")
"""Options that no file has."""


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Let the options of a file be the defaults of the command that is called.

    Raises
    ------
    DataError
        X205, for a file that can't be read, or is no TOML.
    OptionError
        X104, for what is no option of the command, or can't be given in a file.
    """
    if path is None:
        return None
    try:
        text = path.read_text("utf-8")
        found = tomllib.loads(text)
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise DataError(
            "X205", f"the options in {path.name} can't be read: {told}.", hint="TOML: epochs = 3"
        ) from error
    known = {str(p.name): p for p in context.command.params if p.name not in OWN}
    options: dict[str, Any] = {}
    for key, value in found.items():
        name = key.replace("-", "_")
        if name not in known:
            guess = meant("option", key, [named(n) for n in known]).removeprefix("--")
            hint = f"did you mean {guess!r}?" if guess else f"there are {', '.join(map(named, known))}."
            raise OptionError("X104", f"{path.name} has the key {short(key)}, which is no option.", hint=hint)
        if name in options:
            raise OptionError("X104", f"{path.name} has {named(name)} twice, with - and with _.")
        options[name] = text_of(path, key, value)
    context.default_map = {**(context.default_map or {}), **options}
    return path


def named(parameter: str) -> str:
    """An option's name as the command line has it, without its hyphens before."""
    return parameter.replace("_", "-")


def text_of(path: Path, key: str, value: Any) -> Any:
    """A value as the command line would have it; lists with commas."""
    if isinstance(value, list) and value and all(isinstance(item, str | int | float) for item in value):
        return ",".join(map(str, value))
    if not isinstance(value, str | int | float) or value == "":
        whole = f"{key} in {path.name} must be a text, a number, true or false, or a list of them; got {short(value)}."
        raise OptionError("X104", whole)
    return value


def print_config(context: typer.Context) -> None:
    """The options that are given, on the command line or in a file, as such a file, on stdout."""
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if parameter.name not in OWN and value is not None and value is not False:
            print(
                f"{named(str(parameter.name))} = {json.dumps(value if isinstance(value, int | float) else str(value))}"
            )


Config = Annotated[
    Path | None,
    typer.Option("--config", callback=read_config, is_eager=True, help="A TOML file with options of this command."),
]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print the options that are given as such a file, and do no more.")
]
