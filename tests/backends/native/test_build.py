"""The build hook where nothing can be compiled: it warns, and the wheel is pure. What it compiles, other tests run."""

import importlib.util
import platform
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest
from house import ROOT
from xcnn_native import library as native


@pytest.fixture
def hook(monkeypatch):
    """The module hatch_build, which hatchling loads, with as much of hatchling as it names."""
    if not (ROOT / "hatch_build.py").is_file():
        pytest.skip("the hook lies in a checkout alone")
    for name in ("hatchling", "hatchling.builders", "hatchling.builders.hooks", "hatchling.builders.hooks.plugin"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    interface = ModuleType("hatchling.builders.hooks.plugin.interface")
    interface.BuildHookInterface = object
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def built(hook, root):
    """What a build in this folder tells hatchling, and its warnings."""
    kernels, warnings, data = hook.Kernels(), [], {"force_include": {}}
    kernels.root, kernels.app = str(root), SimpleNamespace(display_warning=warnings.append)
    kernels.initialize("standard", data)
    return data, warnings


def failing(*arguments, **keywords):
    raise subprocess.CalledProcessError(1, "zig", stderr="No module named ziglang\n")


CASES = {
    "no compiler": (("Linux", "x86_64", "glibc"), "No module named ziglang."),
    "another processor": (("Linux", "riscv64", "glibc"), "Linux on riscv64"),
    "another system": (("Windows", "AMD64", ""), "Windows on x86_64"),
    "musl": (("Linux", "x86_64", "musl"), "without glibc"),
}


@pytest.mark.parametrize(("place", "told"), CASES.values(), ids=CASES)
def test_without_a_compiler_or_elsewhere_the_wheel_is_pure(place, told, hook, tmp_path, monkeypatch):
    system, machine, libc = place
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: (libc, ""))
    monkeypatch.setattr(hook.subprocess, "run", failing)
    (tmp_path / hook.PACKAGE / "kernels").mkdir(parents=True)
    data, warnings = built(hook, tmp_path)
    assert data == {"force_include": {}}  # and no tag: hatchling's own is py3-none-any
    (warning,) = warnings
    assert told in warning


def test_a_failed_build_leaves_no_library_of_an_earlier_one(hook, tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(hook.subprocess, "run", failing)
    old = tmp_path / hook.PACKAGE / hook.LIBRARY
    old.parent.mkdir(parents=True)
    old.write_bytes(b"other kernels")
    built(hook, tmp_path)
    assert not old.exists()


@pytest.mark.parametrize(
    ("system", "machine", "tag"),
    [
        ("Linux", "x86_64", "py3-none-manylinux_2_17_x86_64"),
        ("Linux", "aarch64", "py3-none-manylinux_2_17_aarch64"),
        ("Darwin", "arm64", "py3-none-macosx_11_0_arm64"),
    ],
)
def test_a_wheel_with_a_library_is_named_after_its_platform(system, machine, tag, hook, tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", ""))
    monkeypatch.setattr(hook, "build", lambda *arguments: None)
    data, warnings = built(hook, tmp_path)
    assert (data["tag"], data["pure_python"], warnings) == (tag, False, [])
    assert [*data["force_include"].values()] == ["xcnn_native/libkernels.so"]


def test_the_hook_and_the_library_agree(hook):
    """On the file, its sources, the instruction sets, and on what there is of each kernel."""
    sources = native.PATH.with_name("kernels")
    assert hook.digest(sources) == native.digest(sources)
    assert native.PATH.name == hook.LIBRARY
    assert {name for sets in hook.SETS.values() for name in sets} == {*native.NAMES}
    assert {kind for kinds, *_ in native.SIGNATURES.values() for kind in kinds} == {
        kind for types in hook.KERNELS.values() for kind in types
    }
