"""What stands below the options in `xcnn train --help`, and `xcnn help train`."""

from __future__ import annotations

from xcnn.nets.recipes import RECIPES

TRAIN = f"""\b
Nets (--model):
{chr(10).join(f"  {name:<13} {recipe.suits}" for name, recipe in RECIPES.items())}
For mnist01, mnist and fashion-mnist the default is article, for a folder of photos photos, for other files lenet.

\b
Where it goes: the model is saved after each epoch as NET-DATA.xcnn in the folder where you are (NET-DATA-2.xcnn
where that is there), or as --output says. Results are on stdout, progress is on stderr.

\b
Examples:
  xcnn train mnist --model fast                   99 % on ten digits in some seconds
  xcnn train "My Photos" --output pets.xcnn       a folder with one folder of photos a class
  xcnn train data.npz --model small-resnet --epochs 20 --augment flip,crop
"""


def asked(arguments: list[str]) -> list[str]:
    """`help train` as `train --help`, `help` as `--help`."""
    return [*arguments[1:2], "--help"] if arguments[:1] == ["help"] else arguments
