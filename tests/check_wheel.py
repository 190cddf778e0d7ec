"""Check what is in a wheel against the checkout it was built from: `python check_wheel.py CHECKOUT [WHEEL]`.

Without WHEEL it is the one that tox built, which `TOX_PACKAGE` names.
"""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

FOLDERS = {"esmcls": "esmcls", "cli": "esmcls_cli", "data": "esmcls_data"}
LIMIT = 25_000_000
"""Bytes that a wheel may have."""


def source_files(checkout: Path) -> set[str]:
    """Return what must be in the wheel, under its installed name: every file of the three folders."""
    return {
        f"{package}/{path.relative_to(checkout / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (checkout / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def faults(checkout: Path, wheel: Path) -> list[str]:
    """Return a line for each thing that is wrong with the wheel."""
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    code = {name for name in packed if ".dist-info/" not in name}
    found = [f"missing: {name}" for name in sorted(source_files(checkout) - code)]
    found += [f"not of this checkout: {name}" for name in sorted(code - source_files(checkout))]
    found += [] if any(name.endswith("/licenses/LICENSE") for name in packed) else ["missing: the licence"]
    size = wheel.stat().st_size
    return found + ([f"{size:,} bytes, more than {LIMIT:,}"] if size > LIMIT else [])


def main() -> int:
    """Print what is wrong, or the number of files and bytes."""
    checkout, wheel = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else os.environ["TOX_PACKAGE"])
    found = faults(checkout, wheel)
    print("\n".join(found) or f"{wheel.name}: {len(source_files(checkout))} files, {wheel.stat().st_size:,} bytes")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
