"""The graph of imports, read from the source: xcnn and the plug-ins, file by file.

Imports under TYPE_CHECKING and inside functions count as all others do. An import from a package counts for the module
that it names, or for the package's own `__init__`.
"""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]

WINGS = [
    ["xcnn.errors"],
    ["xcnn.core"],
    ["xcnn.layers", "xcnn.data"],
    ["xcnn.training"],
    ["xcnn.backends"],
    ["xcnn.exchange"],
    ["xcnn.model", "xcnn.article"],
    ["xcnn.nets"],
    ["xcnn.checking", "xcnn.explainer", "xcnn.parallel", "xcnn.serving", "xcnn.sklearn"],
    ["xcnn.bench"],
    ["xcnn"],
    ["xcnn.cli"],
]
"""From the ground up: a wing imports what lies on floors below its own. `xcnn` is nearly the roof."""

FACES = ["datasets", "initializers", "losses", "metrics", "optimizers", "schedules", "testing", "types"]
"""Modules that only give short names to what lies in a wing: for users, not for xcnn itself."""


SHARED = ("xcnn_host", "xcnn_native", "xcnn_strided")
"""Packages that plug-ins share."""


def modules(root=ROOT):
    """Files by the names of their modules."""
    found = {}
    for folder in (root, root / "backends"):
        for path in [*folder.glob("xcnn/**/*.py"), *folder.glob("xcnn_*/**/*.py")]:
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name, source, is_package, known):
    """The modules among those known that one imports."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = name.split(".")[: len(name.split(".")) - node.level + is_package]
                base = ".".join([*parents, *([base] if base else [])])
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base for alias in node.names}
    return {module for module in found if module in known} - {name}


def graph(root=ROOT):
    """What each module imports."""
    files = modules(root)
    return {name: imports(name, path.read_text(), path.name == "__init__.py", files) for name, path in files.items()}


def circles(edges):
    """Sets of modules that import each other, directly or by way of others: Tarjan 1972."""
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            ring = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(ring) > 1:
                found.append(sorted(ring))

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def floor(module):
    """The number of the floor that a module of xcnn lies on; None for the short names and xcnn itself."""
    for number, wings in enumerate(WINGS):
        if any(module == wing or (wing != "xcnn" and module.startswith(f"{wing}.")) for wing in wings):
            return number
    return None


def wing(module):
    """The wing or the plug-in that a module is of."""
    return ".".join(module.split(".")[: 2 if module.startswith("xcnn.") else 1])


def climbing(edges):
    """Imports that do not lead down: to a floor above, or to another wing on the same floor."""
    return sorted(
        (name, other)
        for name, others in edges.items()
        for other in others
        if floor(name) is not None
        and wing(name) != wing(other)
        and (name != "xcnn" or other.removeprefix("xcnn.") not in FACES)
        and (floor(other) is None or floor(other) >= floor(name))
    )


def straying(edges):
    """Imports of plug-ins by each other, but for what they share, and by xcnn."""
    return sorted(
        (name, other)
        for name, others in edges.items()
        for other in others
        if (other.startswith("xcnn_") and wing(other) not in (wing(name), *SHARED))
        or (other.startswith("xcnn_") and not name.startswith("xcnn_"))
    )


def picture(edges):
    """The wings from the roof down, a line each: what each imports of those below."""
    lines = []
    for name in (name for wings in reversed(WINGS) for name in wings):
        rooms = [m for m in edges if m == name or (name != "xcnn" and m.startswith(f"{name}."))]
        below = {wing(other) for room in rooms for other in edges[room]} - {name}
        listed = ", ".join(w.removeprefix("xcnn.") for wings in WINGS for w in wings if w in below)
        lines.append(f"{name.removeprefix('xcnn.'):<9}  {listed}".rstrip())
    return "\n".join(lines)
