"""`xcnn backends` on BLAS kernels that are older than the processor: recorded processors, and this one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xcnn import cli
from xcnn.cli import backends, blas

SSE42 = {"SSE", "SSE2", "SSE3", "SSSE3", "SSE41", "POPCNT", "SSE42"}
PROCESSORS = {  # as NumPy's show_config told
    "AVX-512, NumPy 2.4": {"X86_V2", "X86_V3", "X86_V4", "AVX512_ICL"},
    "AVX-512, NumPy 2.0": SSE42 | {"AVX", "F16C", "FMA3", "AVX2", "AVX512F", "AVX512CD", "AVX512_SKX", "AVX512_CLX"},
    "AVX2, NumPy 2.4": {"X86_V2", "X86_V3"},
    "AVX2, NumPy 2.0": SSE42 | {"AVX", "F16C", "FMA3", "AVX2"},
    "half of AVX-512": SSE42 | {"AVX", "F16C", "FMA3", "AVX2", "AVX512F", "AVX512CD", "AVX512_KNL"},
    "AVX2 without FMA": SSE42 | {"AVX", "F16C", "AVX2"},
    "AVX": SSE42 | {"AVX"},
    "ARM": {"NEON", "NEON_FP16", "NEON_VFPV4", "ASIMD", "ASIMDHP"},
    "untold": set(),
}


@pytest.mark.parametrize(
    ("processor", "kernels", "expected"),
    [
        ("AVX-512, NumPy 2.4", "Haswell", "SKYLAKEX"),
        ("AVX-512, NumPy 2.0", "Haswell", "SKYLAKEX"),
        ("AVX-512, NumPy 2.4", "Zen", "SKYLAKEX"),
        ("AVX-512, NumPy 2.0", "prescott", "SKYLAKEX"),
        ("AVX-512, NumPy 2.4", "SkylakeX", ""),
        ("AVX-512, NumPy 2.4", "Cooperlake", ""),
        ("AVX-512, NumPy 2.4", "Sapphirerapids", ""),
        ("AVX-512, NumPy 2.4", "SAPPHIRERAPIDS", ""),
        ("AVX-512, NumPy 2.4", "a name of the future", ""),
        ("AVX-512, NumPy 2.4", "unnamed", ""),
        ("AVX2, NumPy 2.4", "Haswell", ""),
        ("AVX2, NumPy 2.4", "Zen", ""),
        ("AVX2, NumPy 2.0", "Excavator", ""),
        ("AVX2, NumPy 2.4", "Nehalem", "HASWELL"),
        ("AVX2, NumPy 2.0", "Sandybridge", "HASWELL"),
        ("half of AVX-512", "Haswell", ""),
        ("half of AVX-512", "Prescott", "HASWELL"),
        ("AVX2 without FMA", "Sandybridge", ""),
        ("AVX", "Prescott", ""),
        ("ARM", "neoversen1", ""),
        ("ARM", "armv8", ""),
        ("untold", "Prescott", ""),
    ],
)
def test_what_is_better(processor, kernels, expected):
    assert blas.better("openblas", kernels, PROCESSORS[processor]) == expected


@pytest.mark.parametrize("library", ["mkl", "blis", "flexiblas"])
def test_other_libraries_are_left_alone(library):
    assert blas.better(library, "Haswell", PROCESSORS["AVX-512, NumPy 2.4"]) == ""


def test_numpy_tells_what_the_system_tells():
    told = Path("/proc/cpuinfo")
    if not told.exists() or "flags" not in told.read_text():
        pytest.skip("only Linux on x86-64 tells the processor's flags in /proc/cpuinfo")
    flags = set(next(line for line in told.read_text().splitlines() if line.startswith("flags")).split())
    wide = {f"avx512{part}" for part in ("f", "cd", "bw", "dq", "vl")} <= flags
    expected = "SKYLAKEX" if wide else "HASWELL" if {"avx2", "fma"} <= flags else ""
    assert blas.better("openblas", "Prescott", blas.processor_features()) == expected


def library(kernels, name="openblas"):
    return {"name": name, "version": "0.3.30", "kernels": kernels, "threads": 2}


@pytest.fixture
def recorded(monkeypatch):
    """A processor with AVX-512, whose libraries start with these kernels, and with those when they are asked for."""

    def record(started, asked):
        tries = []

        def tried(kernels, timeout):
            tries.append(kernels)
            return [library(each) for each in asked]

        monkeypatch.setattr(blas, "processor_features", lambda: PROCESSORS["AVX-512, NumPy 2.4"])
        monkeypatch.setattr(cli.backends, "blas_kernels", lambda: [library(each) for each in started])
        monkeypatch.setattr(blas, "tried", tried)
        monkeypatch.setattr(cli.backends, "probe", lambda name, timeout: {"available": False, "reason": "", "hint": ""})
        monkeypatch.delenv(blas.VARIABLE, raising=False)
        return tries

    return record


@pytest.fixture
def run(run):
    """Run `xcnn backends` in this process: its output."""

    def told(*arguments):
        code, out, _ = run("backends", *arguments)
        assert not code
        return out

    return told


REMEDY = "OPENBLAS_CORETYPE=SKYLAKEX"


@pytest.mark.parametrize(
    ("started", "asked", "expected"),
    [
        (["Haswell", "Haswell"], ["SkylakeX", "SkylakeX"], [REMEDY, REMEDY]),
        (["Haswell", "SkylakeX"], ["SkylakeX", "SkylakeX"], [REMEDY, ""]),
        (["Haswell", "Haswell"], ["Haswell", "SkylakeX"], ["", REMEDY]),  # the first was built without them
        (["Haswell"], ["Prescott"], [""]),
        (["Haswell"], [], [""]),  # the process did not survive
        (["SkylakeX"], ["unreached"], [""]),
    ],
)
def test_the_remedy_is_told_where_it_was_seen_to_help(started, asked, expected, recorded, run):
    recorded(started, asked)
    assert [each["remedy"] for each in json.loads(run("--json"))["blas"]] == expected
    hints = [line for line in run().splitlines() if line.startswith("hint")]
    told = [f"hint     the processor could run faster kernels: set {REMEDY} before Python starts"]
    assert hints == (told if any(expected) else [])


def test_nothing_is_said_or_tried_where_the_variable_is_set(recorded, run, monkeypatch):
    tries = recorded(["Haswell"], ["SkylakeX"])
    monkeypatch.setenv(blas.VARIABLE, "Haswell")
    assert json.loads(run("--json"))["blas"][0]["remedy"] == ""
    assert "hint" not in run()
    assert not tries


def real(asked="", forget=False):
    """What the command tells in a process of its own, started with these kernels, and unaware that they were asked."""
    environment = {name: value for name, value in os.environ.items() if name != blas.VARIABLE}
    first = f"import os, numpy, scipy.linalg; os.environ.pop({blas.VARIABLE!r});" if forget else ""
    first += "import xcnn.backends.registry as r; r.backend_names = list;"  # this is about BLAS alone
    done = subprocess.run(
        [sys.executable, "-c", f"{first}from xcnn.cli import main; main()", "backends", "--json", "--timeout", "600"],
        env={**environment, blas.VARIABLE: asked} if asked else environment,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert not told["backends"]
    return told["blas"]


def test_old_kernels_of_a_real_process_are_told_and_the_remedy_helps():
    expected = blas.better("openblas", "Prescott", blas.processor_features())
    before = real("PRESCOTT", forget=True)
    if not expected or {each["name"] for each in before} != {"openblas"}:
        pytest.skip("NumPy and SciPy do not both run OpenBLAS, or the processor has no AVX2: there is no remedy")
    assert {each["remedy"] for each in before} == {f"{blas.VARIABLE}={expected}"}
    after = real(expected)
    assert {each["kernels"].lower() for each in after} == {expected.lower()}
    assert {each["remedy"] for each in after} == {""}


def test_this_machine_is_content_with_its_remedy():
    started = real()
    remedies = {each["remedy"] for each in started} - {""}
    after = real(*(remedy.partition("=")[2] for remedy in remedies))
    assert {each["remedy"] for each in after} == {""}
    for before, then in zip(started, after, strict=True):
        assert (blas.width(then["kernels"]) > blas.width(before["kernels"])) == bool(before["remedy"])


def test_a_process_that_dies_or_hangs_is_no_remedy(monkeypatch):
    for code in ("import os; os.abort()", "import time; time.sleep(60)", "print('[')"):
        monkeypatch.setattr(blas, "PROBE", code)
        blas.tried.cache_clear()
        assert blas.tried("SKYLAKEX", 0.5) == []
    blas.tried.cache_clear()


def test_nothing_of_the_current_folder_is_run(tmp_path, monkeypatch):
    """The processes that are asked find their modules where they are installed, not where the command is given."""
    for name in ("json", "scipy", "xcnn", "numpy"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()")
    monkeypatch.chdir(tmp_path)
    assert backends.probe("numpy", 600)["available"]
    blas.tried.cache_clear()
    blas.tried("HASWELL", 600)
    blas.tried.cache_clear()
    assert not (tmp_path / "ran").exists()
