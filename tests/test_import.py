"""What `import xcnn` loads, and how long it takes."""

import os
import subprocess
import sys

import numpy as np
import pytest

HEAVY = {"scipy", "rich", "typer", "matplotlib", "cupy", "cupyx", "torch", "jax", "pooch", "PIL", "safetensors"}
SECONDS = 0.2


def python(code, **variables):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ | variables
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_import_loads_no_heavy_package_and_no_backend():
    loaded = set(python("import sys, xcnn; print(*{name.partition('.')[0] for name in sys.modules})"))
    assert {"xcnn", "numpy"} <= loaded
    assert not loaded & HEAVY
    assert not [name for name in loaded if name.startswith("xcnn_")]


def test_asking_for_numpy_loads_no_other_backend():
    loaded = set(python("import sys, xcnn; xcnn.backend('numpy'); print(*sys.modules)"))
    assert "xcnn_numpy" in loaded
    assert not loaded & {"xcnn_cupy", "xcnn_strict", "cupy", "array_api_strict"}
    assert not loaded & {"scipy.signal", "scipy.fft", "scipy.special"}


@pytest.mark.skipif(
    not hasattr(np, "cumulative_sum"), reason="NumPy before 2.1 lacks some of the standard, which its clone has"
)
def test_a_step_on_numpy_loads_none_of_its_packages_for_others():
    """Array-api-compat's clone of NumPy imports all of them, 6 MiB."""
    net = "xcnn.Sequential(xcnn.BatchNorm(), xcnn.GELU(), xcnn.LayerNorm(), xcnn.Flatten(), xcnn.Dense(2))"
    step = f"xcnn.Model({net}, (1, 4, 4), backend='numpy').step(numpy.ones((2, 1, 4, 4), 'float32'), [0, 1])"
    loaded = set(python(f"import sys, numpy, xcnn; {step}; print(*sys.modules)"))
    assert not loaded & {"numpy.f2py", "numpy.testing", "unittest", "numpy.ma.extras"}


def test_planes_are_correlated_by_scipy_which_is_loaded_then():
    code = "import sys, numpy, xcnn; xcnn.correlate2d(numpy.ones((2, 2)), numpy.ones((1, 1))); print(*sys.modules)"
    assert "scipy.signal" in python(code)


def test_names_of_backends_load_none():
    code = "import sys; from xcnn.backends import backend_names; print(*backend_names(), '|', *sys.modules)"
    names, loaded = " ".join(python(code)).split(" | ")
    assert {"cupy", "numpy", "strict"} <= set(names.split())
    assert not [name for name in loaded.split() if name.startswith("xcnn_")]


def test_import_is_quick(tmp_path):
    """What xcnn adds to NumPy's own import: in processor time, since other programs run too, and with compiled modules,
    as an installed package has them."""
    code = "import numpy, time; start = time.process_time(); import xcnn; print(time.process_time() - start)"
    kept = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    python("import xcnn", **kept)
    assert min(float(python(code, **kept)[0]) for _ in range(5)) < SECONDS
