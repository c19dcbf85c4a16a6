"""The text of `--help`: what stands below the options in `xcnn train --help`, and `xcnn help train`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from xcnn.nets.recipes import RECIPES

TRAIN = f"""\b
Nets (--model):
{chr(10).join(f"  {name:<13} {recipe.suits}" for name, recipe in RECIPES.items())}

By default: article for mnist01, mnist and fashion-mnist, photos for a folder of photos, lenet for other files.

Where it goes: the model is saved after each epoch as NET-DATA.xcnn in the folder where you are (NET-DATA-2.xcnn where
that is there), or as --output says. Results are on stdout, progress is on stderr.

\b
Examples:
  xcnn train mnist --model fast              99 % on digits in seconds
  xcnn train "My Photos" --output pets.xcnn  a folder a class
  xcnn train data.npz --model small-resnet --epochs 20 --augment flip,crop
"""


class Plain(TyperCommand):
    """A command whose help is plain text, as no release of Typer marks it up: before 0.21 they escape the brackets."""

    def get_help(self, ctx: Any) -> str:
        """What `--help` prints."""
        return super().get_help(ctx).replace("\\[", "[")


def asked(arguments: list[str]) -> list[str]:
    """`help train` as `train --help`, `help` as `--help`."""
    return [*arguments[1:2], "--help"] if arguments[:1] == ["help"] else arguments
