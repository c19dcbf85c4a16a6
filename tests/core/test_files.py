"""Files are written whole or not at all, replace nothing but files, and what dead writers left is removed."""

import errno
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from xcnn_numpy import NumpyBackend

from xcnn.core import files
from xcnn.core.files import check_path, open_regular, write_whole
from xcnn.layers import Dense, Sequential
from xcnn.model.model import Model
from xcnn.training.callbacks import Checkpoint
from xcnn.training.history import History

POSIX = pytest.mark.skipif(os.name != "posix", reason="FIFOs, devices and locks are POSIX's")
ROWS = [{"epoch": 1, "loss": 0.5}]


def tiny():
    return Model(Sequential(Dense(2)), (3,), backend="numpy")


def plot(path):
    pytest.importorskip("matplotlib", reason="the extra xcnn[plot] is not installed")
    History(ROWS).plot(path)


def plans(path):
    from xcnn_cupy.cudnn.choices import write

    write(path, 92800, "none", {})


WRITERS = {
    "save": lambda path: tiny().save(path),
    "callback": lambda path: Checkpoint(path).start(tiny()),
    "json": lambda path: History(ROWS).to_json(path),
    "plot": plot,
    "plans": plans,
    "bytes": lambda path: write_whole(path, b"new"),
}


KINDS = ("fifo", "socket", "device", "link to a fifo", "read-only", "link to read-only")
CASES = [(kind, writer) for kind in KINDS for writer in WRITERS if (kind, writer) != ("device", "plot")]
"""All but a plot to /dev/null, which would be one to /dev/null.png."""


@POSIX
@pytest.mark.parametrize(("kind", "writer"), CASES)
def test_what_is_no_writable_file_is_not_replaced(kind, writer, tmp_path, monkeypatch):
    path = there = tmp_path / "it.png"
    if kind == "socket":
        monkeypatch.chdir(tmp_path)  # a socket's address is short
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("it.png")
    elif kind == "device":
        path = there = os.devnull
    elif "fifo" in kind:
        there = tmp_path / "there" if "link" in kind else path
        os.mkfifo(there)
    else:
        there = tmp_path / "there" if "link" in kind else path
        there.write_bytes(b"old")
        there.chmod(0o444)
    if "link" in kind:
        path.symlink_to(there)
    before, beside = os.stat(there), sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match=r"Is no regular file|Is read-only") as caught:
        WRITERS[writer](path)
    assert caught.value.filename == str(path)
    after = os.stat(there)
    assert (after.st_ino, after.st_mode, after.st_mtime_ns) == (before.st_ino, before.st_mode, before.st_mtime_ns)
    assert sorted(tmp_path.iterdir()) == beside


@POSIX
def test_a_closed_pipe_under_a_name_of_the_system_is_refused():
    reader, writer = os.pipe()
    try:
        with pytest.raises(OSError, match="Is no regular file"):
            write_whole(f"/dev/fd/{writer}", b"x")
    finally:
        os.close(reader), os.close(writer)


def test_links_are_followed_also_where_they_lead_to_nothing_yet(tmp_path):
    for name in ("there", "new"):
        link = tmp_path / f"link-{name}"
        link.symlink_to(tmp_path / name)
    (tmp_path / "there").write_bytes(b"old")
    for name in ("there", "new"):
        write_whole(tmp_path / f"link-{name}", b"new")
        assert (tmp_path / name).read_bytes() == b"new"
        assert (tmp_path / f"link-{name}").is_symlink()


@pytest.mark.parametrize("length", [64, 65, 240, 255])
def test_long_names_can_be_saved(length, tmp_path):
    for name in ("n" * length, "ü" * (length // 2)):
        write_whole(tmp_path / name, b"new")
        assert (tmp_path / name).read_bytes() == b"new"
    assert len(list(tmp_path.iterdir())) == 2
    tiny().save(tmp_path / ("m" * length))
    with pytest.raises(OSError, match=r"(?i)too long"):
        write_whole(tmp_path / ("n" * 256), b"new")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")
@pytest.mark.parametrize("where", ["write", "fsync"])
def test_a_full_disk_is_told_with_the_path(where, tmp_path, monkeypatch):
    path = tmp_path / "m.xcnn"
    write_whole(path, b"old")
    if where == "write":
        opened = os.open

        def full(name, *args):
            return opened("/dev/full" if str(name).endswith(".part") else name, *args)

        monkeypatch.setattr(os, "open", lambda name, flags, *rest: full(name, flags & ~os.O_EXCL, *rest))
        monkeypatch.setattr(files, "is_at", lambda *args: True)
    else:
        monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    for write in (lambda: write_whole(path, b"x" * 10**6), lambda: tiny().save(path), lambda: History().to_json(path)):
        with pytest.raises(OSError, match=r"No space left|Input/output error") as caught:
            write()
        assert caught.value.filename == str(path)
        assert caught.value.errno in (errno.ENOSPC, errno.EIO)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@POSIX
@pytest.mark.parametrize("code", ["EINVAL", "ENOTSUP", "ENOSYS", "EBADF"])
@pytest.mark.parametrize("what", ["folders", "everything"])
def test_a_file_system_that_can_t_be_synced_takes_whole_files(code, what, tmp_path, monkeypatch):
    fsync, refused = os.fsync, []

    def refuse(handle):
        if what == "everything" or stat.S_ISDIR(os.fstat(handle).st_mode):
            refused.append(handle)
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refuse)
    x = np.ones((4, 3), "float32")
    model = Model(Sequential(Dense(2)), (3,), backend=NumpyBackend(algorithm="gemm", fuse=False))
    history = model.fit(x, [0, 1, 0, 1], epochs=2, callbacks=[Checkpoint(tmp_path / "m.xcnn")], progress="none")
    assert (len(history), history.stopped) == (2, "finished")
    np.testing.assert_array_equal(Model.load(tmp_path / "m.xcnn", backend="numpy").predict(x), model.predict(x))
    assert len(refused) >= 2
    assert os.listdir(tmp_path) == ["m.xcnn"]


@POSIX
@pytest.mark.parametrize("code", ["EPERM", "EOPNOTSUPP"])
def test_a_file_system_without_modes_takes_files(code, tmp_path, monkeypatch):
    asked = []

    def refuse(handle, mode):
        asked.append(mode)
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    path = tmp_path / "a"
    write_whole(path, b"old")
    monkeypatch.setattr(os, "fchmod", refuse)
    write_whole(path, b"new")
    assert (path.read_bytes(), asked, os.listdir(tmp_path)) == (b"new", [path.stat().st_mode & 0o777 | 0o044], ["a"])


@POSIX
def test_a_folder_that_can_t_be_read_can_be_written_into(tmp_path, monkeypatch):
    opened = os.open

    def refuse(name, flags, *rest):
        if flags & os.O_DIRECTORY:  # as its mode 0300 does, but not for root
            raise PermissionError(errno.EACCES, "Permission denied", str(name))
        return opened(name, flags, *rest)

    monkeypatch.setattr(os, "open", refuse)
    write_whole(tmp_path / "m", b"new")
    assert (tmp_path / "m").read_bytes() == b"new"


@POSIX
def test_a_disk_that_fails_under_a_folder_is_told(tmp_path, monkeypatch):
    def fail(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error") as caught:
        write_whole(tmp_path / "m", b"new")
    assert caught.value.filename == str(tmp_path / "m")


OURS = Path(files.__file__).parents[2]
WRITES = re.compile(
    r"""\.write_(text|bytes)\(|savefig\((?!buffer)|\bnp\.save\w*\(|\.tofile\(|\bdump\(|\bopen\([^)]*["'][rb]?[wax+]"""
)


BY_LINES = {"xcnn/training/loggers.py", "benchmarks/on_gpu/run.py"}
"""Logs, which grow line by line: what was written stays, should the next line not be."""
PASSING = {"xcnn/serving/service.py"}
"""An upload in a folder of its own, gone with the answer."""


def without_examples(text):
    """Source without what its docstrings show."""
    return re.sub(r"^ *(>>>|\.\.\.) .*$", "", text, flags=re.MULTILINE)


def test_nothing_else_writes_files():
    """So that each is whole or not there: plots, reports, benchmarks and examples too."""
    files_of = [
        path for folder in ("xcnn", "backends", "benchmarks", "examples") for path in (OURS / folder).rglob("*.py")
    ]
    assert len(files_of) > 200
    others = {path for path in files_of if WRITES.search(without_examples(path.read_text(encoding="utf-8")))}
    assert {path.relative_to(OURS).as_posix() for path in others} == BY_LINES | PASSING
    for line in (
        'path.write_text("x")',
        "figure.savefig(path)",
        'open(path, "w")',
        'path.open("ab")',
        "np.savez(p, x)",
    ):
        assert WRITES.search(line)


WRITER = """
import os, signal, sys, time
import xcnn.core.files as files
def die(*args): print("within", flush=True); time.sleep(60)
os.{where} = die
files.write_whole(sys.argv[1], b"x" * 100_000)
"""


def within(where, path):
    """A process that stands within its write of this path."""
    command = [sys.executable, "-c", WRITER.format(where=where), str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "within\n"
    return process


def parts(folder):
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".part"))


@POSIX
@pytest.mark.parametrize("name", ["m.xcnn", "a long name " * 12], ids=["short", "long"])
def test_what_killed_writers_left_is_removed_by_the_next(name, tmp_path):
    path = tmp_path / name
    dead = [within(where, path) for where in ("fsync", "replace")]
    for process in dead:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert len(parts(tmp_path)) == 2
    killed = set(parts(tmp_path))
    live = within("fsync", path)
    try:
        (lively,) = set(parts(tmp_path)) - killed
        others = {".other.0123456789ab.part", f".{name[:50]}.txt.part", f".{name[:50]}.0123.part"}
        for other in others:
            (tmp_path / other).write_bytes(b"another's")
        write_whole(path, b"new")
        assert path.read_bytes() == b"new"
        assert set(parts(tmp_path)) == {lively, *others}
    finally:
        live.send_signal(signal.SIGKILL)
        live.wait()
        live.stdout.close()
    write_whole(path, b"newer")
    assert set(parts(tmp_path)) == others


@POSIX
def test_what_was_killed_before_it_got_its_free_name_is_removed_too(tmp_path, monkeypatch):
    """A first checkpoint is written whole under a temporary name, and linked to the first name that is free."""
    from xcnn.cli.saving import save_as_new

    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.xcnn"
    for part in (files.temporary_path(path), files.temporary_path(files.temporary_path(path))):
        part.write_bytes(b"killed")
    (tmp_path / ".m.xcnn.notes.part").write_bytes(b"another's")
    link, taken = os.link, []

    def late(part, name):
        if not taken:  # a process beside this one, which comes between
            taken.append(part)
            write_whole(path, b"its own")
        link(part, name)

    monkeypatch.setattr(os, "link", late)
    saved = save_as_new(tiny(), "m")
    assert taken
    assert Model.load(saved, backend="numpy").output_shape == (2,)
    assert sorted(name.name for name in tmp_path.iterdir()) == [".m.xcnn.notes.part", "m-2.xcnn", "m.xcnn"]


@POSIX
def test_a_live_writer_is_not_disturbed_by_another(tmp_path):
    path, faults = tmp_path / "m.xcnn", []

    def write(mark):
        try:
            for _ in range(60):
                write_whole(path, mark * 5000)
        except OSError as error:
            faults.append(error)

    threads = [threading.Thread(target=write, args=(mark,)) for mark in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert path.read_bytes() in (b"a" * 5000, b"b" * 5000, b"c" * 5000)
    assert list(tmp_path.iterdir()) == [path]


def test_without_locks_only_old_files_are_taken_for_dead(tmp_path, monkeypatch):
    if files.fcntl:
        monkeypatch.setattr(files.fcntl, "flock", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOLCK, "none")))
    old, young = tmp_path / ".m.0123456789ab.part", tmp_path / ".m.abcdefabcdef.part"
    for part in (old, young):
        part.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    write_whole(tmp_path / "m", b"new")
    assert parts(tmp_path) == [young.name]


def test_a_link_among_the_dead_is_left_alone(tmp_path):
    (tmp_path / "precious").write_bytes(b"x")
    (tmp_path / ".m.0123456789ab.part").symlink_to(tmp_path / "precious")
    write_whole(tmp_path / "m", b"new")
    assert (tmp_path / "precious").read_bytes() == b"x"


def test_permissions_stay(tmp_path):
    path = tmp_path / "m"
    for mode in (0o600, 0o640, 0o755):
        path.write_bytes(b"old")
        path.chmod(mode)
        write_whole(path, b"new")
        assert stat.S_IMODE(path.stat().st_mode) == mode


@POSIX
def test_only_files_are_opened_to_be_read(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, error in [(tmp_path / "fifo", files.IrregularFileError), (os.devnull, files.IrregularFileError),
                        (tmp_path, IsADirectoryError), (tmp_path / "none", FileNotFoundError)]:  # fmt: skip
        with pytest.raises(error) as caught:
            open_regular(path)
        assert caught.value.filename in (str(path), path)
    (tmp_path / "file").write_bytes(b"text")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"text"


def test_a_folder_is_no_file_to_write(tmp_path):
    with pytest.raises(IsADirectoryError):
        check_path(tmp_path)
    with pytest.raises(FileNotFoundError):
        check_path(tmp_path / "none" / "m")


def test_figures_are_whole_and_of_the_format_that_is_asked_for(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="the extra xcnn[plot] is not installed")
    from xcnn.errors import OptionError

    history = History([{"epoch": n, "loss": 1 / n, "val_loss": 2 / n} for n in (1, 2)])
    for name, begins in [("a.png", b"\x89PNG"), ("b.PDF", b"%PDF"), ("c.svg", b"<?xml"), ("d", b"\x89PNG")]:
        history.plot(tmp_path / name)
        path = tmp_path / (name if "." in name else f"{name}.png")
        assert path.read_bytes().startswith(begins)
    with pytest.raises(OptionError, match=r"X104.*'xyz'"):
        history.plot(tmp_path / "e.xyz")
    assert not (tmp_path / "e.xyz").exists()
    before = (tmp_path / "a.png").read_bytes()
    monkeypatch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    for write in (history.plot, history.to_json):
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == before


# Whose file it is, and who may read it.


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o660])
def test_a_private_file_is_private_while_it_is_replaced(mode, tmp_path, monkeypatch):
    path, modes = tmp_path / "m.xcnn", []
    path.write_bytes(b"old")
    path.chmod(mode)
    opened, written = os.open, os.fdopen

    def told(*_):
        modes.extend(stat.S_IMODE(part.stat().st_mode) for part in tmp_path.glob(".*.part"))

    monkeypatch.setattr(os, "open", lambda *args: [opened(*args), told()][0])
    monkeypatch.setattr(os, "fdopen", lambda *args: [told(), written(*args)][1])
    before = os.umask(0o022)
    try:
        write_whole(path, b"new")
    finally:
        os.umask(before)
    assert set(modes) == {0o600}
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)


def refuse_owners(*_):
    raise PermissionError(errno.EPERM, "Operation not permitted")


ROOT = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")


@POSIX
@ROOT
@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("writer", ["save", "callback", "bytes"])
def test_another_users_file_keeps_its_owner_or_is_not_replaced(writer, allowed, tmp_path, monkeypatch):
    path = tmp_path / "m.xcnn"
    path.write_bytes(b"theirs")
    path.chmod(0o640)
    os.chown(path, 12345, 23456)
    if allowed:
        WRITERS[writer](path)
    else:
        monkeypatch.setattr(os, "fchown", refuse_owners)
        with pytest.raises(PermissionError, match="Belongs to another user"):
            WRITERS[writer](path)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 23456, 0o640)
    assert (path.read_bytes() == b"theirs") == (writer == "callback" or not allowed)
    assert os.listdir(tmp_path) == ["m.xcnn"]


@POSIX
@ROOT
def test_a_group_that_can_not_be_kept_may_read_nothing(tmp_path, monkeypatch):
    path = tmp_path / "m.xcnn"
    path.write_bytes(b"old")
    path.chmod(0o664)
    os.chown(path, os.geteuid(), 23456)
    monkeypatch.setattr(os, "fchown", refuse_owners)
    write_whole(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


@POSIX
@ROOT
@pytest.mark.parametrize("sticky", [True, False])
@pytest.mark.parametrize("owner", ["another", "mine", "the folder's"])
@pytest.mark.parametrize("kind", ["link", "link to a folder", "link by a link", "file"])
def test_what_others_put_into_a_folder_of_everybodys(kind, owner, sticky, tmp_path):
    everybodys, own = tmp_path / "everybodys", tmp_path / "own"
    everybodys.mkdir()
    own.mkdir()
    (own / "m.xcnn").write_bytes(b"old")
    planted = everybodys / "m.xcnn"
    path = planted
    if kind == "file":
        planted.write_bytes(b"old")
    elif kind == "link to a folder":
        planted.symlink_to(own)
        path = planted / "m.xcnn"
    else:
        planted.symlink_to(own / "m.xcnn")
    if kind == "link by a link":
        path = own / "by.xcnn"
        path.symlink_to(Path("..", "own", "..", "everybodys", "m.xcnn"))
    os.chown(planted, {"another": 12345, "mine": os.geteuid(), "the folder's": 777}[owner], -1, follow_symlinks=False)
    os.chown(everybodys, 777, -1)
    everybodys.chmod(0o1777 if sticky else 0o755)
    if sticky and owner == "another":
        with pytest.raises(PermissionError, match="put by another user"):
            write_whole(path, b"new")
        assert path.read_bytes() == b"old"
    else:
        write_whole(path, b"new")
        assert path.read_bytes() == b"new"
        assert planted.is_symlink() == (kind != "file")
