"""Kill an embedding run at random moments, let it go on, and count what is lost or changed.

    python benchmarks/kill_test.py --kills 100

Prints counts and writes benchmarks/results/kill_test.json; ends with 1 if a sealed row was lost or changed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
DRIVER = HERE.parent / "tests" / "fault_driver.py"


def main() -> None:
    """Parse the arguments, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    options = parser.parse_args()
    counts = {}
    for mode, *more in (["crash"], ["kill", str(options.kills)]):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, str(DRIVER), mode, folder, *more]
            counts[mode] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(mode, ", ".join(f"{name} {value}" for name, value in counts[mode].items()), flush=True)
    result = {"command": f"python benchmarks/kill_test.py --kills {options.kills}", **counts}
    (HERE / "results" / "kill_test.json").write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    sys.exit(bool(counts["kill"]["lost"] or counts["kill"]["changed"]))


if __name__ == "__main__":
    main()
