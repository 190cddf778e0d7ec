"""Loads `device.cpp` before torch is imported and asks what devices there are."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

KIND = os.environ["PRETENDED_DEVICE"]
"""cuda or mps."""


def _load() -> None:
    """Load `device.cpp` before torch asks what devices there are; compiled once a version of torch."""
    source = Path(__file__).with_name("device.cpp")
    specification = importlib.util.find_spec("torch")
    assert specification is not None
    assert specification.origin is not None
    torch_folder = Path(specification.origin).parent
    told = source.read_bytes() + (torch_folder / "version.py").read_bytes()
    library = Path(tempfile.gettempdir()) / f"esmcls-pretended-{hashlib.sha256(told).hexdigest()[:16]}.so"
    if not library.exists():
        part = library.with_suffix(f".{os.getpid()}")
        words = ["-std=c++20", "-O0", "-shared", "-fPIC", f"-I{torch_folder / 'include'}", str(source)]
        words += [f"-L{torch_folder / 'lib'}", "-lc10", "-ltorch_cpu", "-o", str(part)]
        subprocess.run([os.environ.get("CXX", "g++"), *words], check=True)
        part.replace(library)
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(torch_folder / "lib" / name), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


assert "torch" not in sys.modules, "load this plugin with -p, before torch"
_load()
