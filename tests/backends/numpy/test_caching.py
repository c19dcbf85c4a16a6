"""Machine code that is kept for other processes: it runs for the sources that it was compiled from, or not at all."""

import ast
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="Numba is not installed: nothing is compiled")
import numba
import xcnn_numpy
from xcnn_numpy import caching

posix = pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no owners and modes")
PACKAGE = Path(xcnn_numpy.__file__).parent
MEAN = """
import numpy as np
from xcnn_numpy.direct.average import forward
x, y = np.arange(200, dtype="float32"), np.empty(2, "float32")
forward.kernel(x, y, 100, 0, 0, 2)
print(*y, sum(forward.kernel.stats.cache_hits.values()), forward.kernel.stats.cache_path)
"""


def mean(sources, folder):
    """What the package in this folder takes for the means of 0..99 and 100..199, hits in what was kept, and where."""
    environment = {**os.environ, "PYTHONPATH": str(sources), "NUMBA_CACHE_DIR": str(folder)}
    command = [sys.executable, "-B", "-c", MEAN]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    *means, hits, where = done.stdout.split()
    return [float(y) for y in means], int(hits), Path(where)


def test_what_another_file_holds_is_compiled_in_anew_whatever_that_file_s_time_says(tmp_path):
    """A mean calls `total`, which is in another file: at first that doubles, as if a mistake were mended later."""
    sources, folder = tmp_path / "sources", tmp_path / "cache"
    shutil.copytree(PACKAGE, sources / "xcnn_numpy", ignore=shutil.ignore_patterns("__pycache__"))
    lines = sources / "xcnn_numpy" / "direct" / "lines.py"
    text, told = lines.read_text(), lines.stat()
    right = "return _total(a, a, at, pitch, (), rows, columns)[0]"
    assert text.count(right) == 1
    lines.write_text(text.replace(right, f"{right} * 2.0"))
    before = mean(sources, folder)
    lines.write_text(text)
    os.utime(lines, ns=(told.st_atime_ns, told.st_mtime_ns - 10**12))
    after = mean(sources, folder)
    assert before[:2] == ([99.0, 299.0], 0)
    assert after[:2] == ([49.5, 149.5], 0)
    assert after[2].is_relative_to(folder)
    assert {path.parent for path in folder.rglob("forward-*")} == {before[2], after[2]}


def squared(folder):
    """A function of numbers, compiled as if this were a new process."""

    def square(n):
        return n * n

    dispatcher = numba.njit(square)
    dispatcher._cache = caching.Kept(square, folder)
    return dispatcher


def hits(dispatcher):
    return sum(dispatcher.stats.cache_hits.values())


def test_each_type_s_code_has_a_file_of_its_own_and_another_process_takes_it(tmp_path):
    """Numba numbers its files: of two processes that begin together one can get the other's, for other types."""
    squared(tmp_path)(3)
    one, two = squared(tmp_path), squared(tmp_path)
    assert (two(0.5), one(3), hits(one), hits(two)) == (0.25, 9, 1, 0)
    assert len([*tmp_path.iterdir()]) == 2
    assert (squared(tmp_path)(1.5), squared(tmp_path)(4)) == (2.25, 16)


@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[:-1], lambda data: data[:99] + b"!" + data[99:]]
)
def test_what_is_damaged_is_compiled_again(tmp_path, damage):
    squared(tmp_path)(3)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    again = squared(tmp_path)
    assert (again(3), hits(again)) == (9, 0)
    assert len(file.read_bytes()) == len(whole)
    last = squared(tmp_path)
    assert (last(3), hits(last)) == (9, 1)


def test_a_disk_that_takes_no_more_costs_only_time(tmp_path, caplog, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(caching, "write_whole", full)
    caching.tell.cache_clear()
    assert [squared(tmp_path)(n) for n in (3, 4)] == [9, 16]
    assert [record.levelname for record in caplog.records if "each process compiles anew" in record.message] == [
        "WARNING"
    ]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Where a folder can be, none but for this test."""
    wanted, home, temporary = tmp_path / "wanted", tmp_path / "home", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(wanted))
    monkeypatch.setenv("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME", str(home))
    monkeypatch.setattr(caching.tempfile, "gettempdir", lambda: str(temporary))
    return wanted, home, temporary


def chosen():
    return caching.own_folder.__wrapped__()


def test_the_folder_is_where_the_user_wants_it_else_in_his_cache_else_a_temporary_one(places):
    wanted, home, temporary = places
    assert chosen().parent.parent == wanted
    shutil.rmtree(wanted)
    wanted.touch()  # a file: no folder can be made there, by root neither
    assert chosen().parent.parent == home
    numba.config.CACHE_DIR = ""
    shutil.rmtree(home)
    assert chosen().parent.parent == home
    shutil.rmtree(home)
    home.touch()
    assert chosen().parent.parent == temporary
    assert stat.S_IMODE(chosen().stat().st_mode) == 0o700 or os.name == "nt"


@posix
@pytest.mark.parametrize("open_to_others", ["mode", "owner", "link", "folder above"])
def test_a_folder_that_others_can_write_is_not_used(places, tmp_path, monkeypatch, open_to_others):
    *_, temporary = places
    for place in places:
        ours = place / f"xcnn-numba-{os.getuid()}"
        ours.mkdir(mode=0o700, parents=True)
        if open_to_others == "mode":
            ours.chmod(0o770)
        elif open_to_others == "link":
            ours.rmdir()
            ours.symlink_to(tmp_path)
        elif open_to_others == "folder above":
            place.chmod(0o777)
    if open_to_others == "owner":
        another = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: another)
        for place in places:
            (place / f"xcnn-numba-{os.getuid()}").mkdir(mode=0o700)
    assert chosen() is None
    if open_to_others == "folder above":
        temporary.chmod(0o1777)  # as /tmp is: a name in it can be given away by its owner alone
        assert chosen().parent.parent == temporary


def test_without_a_folder_it_is_compiled_anew_and_told_once(places, caplog):
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
        place.touch()
    caching.own_folder.cache_clear()
    caching.tell.cache_clear()
    for _ in range(2):
        assert caching.keep(numba.njit(lambda n: n + 1))(2) == 3
    caching.own_folder.cache_clear()
    assert ["set NUMBA_CACHE_DIR" in record.message for record in caplog.records] == [True]


def test_what_was_compiled_from_sources_that_are_no_more_goes_after_a_month(places):
    folder = chosen()
    old, recent = folder.with_name("old"), folder.with_name("recent")
    for other, days in ((old, 31), (recent, 29)):
        other.mkdir()
        (other / "code").touch()
        os.utime(other, (time.time() - days * 86400,) * 2)
    os.utime(folder, (0, 0))
    assert chosen() == folder
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted([folder.name, "recent"])


def test_the_digest_follows_settings_and_modules(monkeypatch):
    digest = caching.digest.__wrapped__
    assert digest() == digest()
    before = {digest()}
    for change in (
        lambda patch: patch.setattr(numba.config, "BOUNDSCHECK", 1),
        lambda patch: patch.setattr(numba, "__version__", "0"),
        lambda patch: patch.setattr(caching.llvmlite.binding, "get_host_cpu_name", lambda: "another"),
        lambda patch: patch.setattr(caching, "ROOTS", caching.ROOTS[1:]),
    ):
        with monkeypatch.context() as patch:
            change(patch)
            assert digest() not in before
            before.add(digest())


def test_code_is_described_by_all_that_it_does_and_in_one_way():
    one, other = frozenset([0, 8]), frozenset([8, 0])
    assert [*one] != [*other]  # as sets of names are in another order in each process
    assert caching.described((one, "x")) == caching.described((other, "x"))
    sources = ["x = 0.0", "x = -0.0", "y = 0.0", "def x(a=0.0): ...", "def x(a=1.0): ...", "def x(*, a=1.0): ...",
               "x += 0.0", "x = a in {0, 8}", "x = a in {0, 9}", "x = lambda: 1", "x = lambda: 2"]  # fmt: skip
    told = {caching.described(compile(source, "", "exec")) for source in sources}
    assert len(told) == len(sources)
    assert caching.described(compile("# moved\n\nx = 0.0", "elsewhere", "exec")) in told


COMPILERS = {"compiled", "njit", "intrinsic", "inlined", "without_errors", "Shared"}


@cache
def names(node):
    """All names that are read in a piece of code."""
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def compiled_in(tree):
    """The names that a module's compiled functions read, and those that what they call reads, in this module."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    reached = [node for node in functions if any(names(decorator) & COMPILERS for decorator in node.decorator_list)]
    if not reached:
        return set()
    for node in reached:
        reached += [other for other in functions if other.name in names(node) and other not in reached]
    found = set().union(*map(names, reached))
    values = [node for node in tree.body if isinstance(node, ast.Assign)]
    return found.union(*(names(node.value) for node in values if names(node) & found))


def test_every_module_whose_numbers_and_functions_are_compiled_in_is_digested():
    digested = {name for root in caching.ROOTS for name in caching.modules(root)}
    assert {"xcnn_numpy.direct.lines", "xcnn_numpy.update", "xcnn_numpy.plain", "xcnn_numpy"} < digested
    outside, modules = set(), 0
    for name in sorted(digested):
        tree = ast.parse(Path(importlib.util.find_spec(name).origin).read_text())
        read = compiled_in(tree)
        modules += bool(read)
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0].startswith("xcnn"):
                taken = {alias.asname or alias.name for alias in node.names} & read
                taken -= {"Array", "Any"}  # annotations
                if taken and node.module not in digested:
                    outside.add((name, node.module, *sorted(taken)))
    assert modules >= 8
    assert outside == set()
