"""A few lines of C as a shared library, where there is a compiler for them."""

import shutil
import subprocess
import tempfile
from pathlib import Path

COMPILER = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
BUILDS = tempfile.TemporaryDirectory(prefix="xcnn-c-", ignore_cleanup_errors=True)


def compiled(text, name):
    """Where the library of this name lies, made of a text; None without a compiler.

    Raises
    ------
    subprocess.CalledProcessError
        where it does not compile, with what the compiler said
    """
    if COMPILER is None:
        return None
    source, target = Path(BUILDS.name, f"{name}.c"), Path(BUILDS.name, name)
    source.write_text(text)
    command = [COMPILER, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(target), str(source)]
    subprocess.run(command, capture_output=True, text=True, check=True)
    return target
