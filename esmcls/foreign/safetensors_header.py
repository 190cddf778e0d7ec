"""What a file of safetensors says of its tensors before they begin: read without PyTorch.

Source: https://huggingface.co/docs/safetensors, "Format": 8 bytes, the length of the header; the header; the numbers.
"""

from __future__ import annotations

import json
from pathlib import Path

from esmcls.errors import WeightsError
from esmcls.plain_values import from_plain

LENGTH_BYTES = 8
MOST_BYTES = 100_000_000
"""Of a header, as the format's own reader has it."""


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor of a file.

    Raises
    ------
    WeightsError
        If the file is none of safetensors.
    """
    try:
        with open(path, "rb") as handle:
            length = int.from_bytes(handle.read(LENGTH_BYTES), "little")
            if length > MOST_BYTES:
                raise ValueError(f"a header of {length} bytes")
            header = from_plain(dict[str, dict[str, object]], json.loads(handle.read(length)))
        return {name: from_plain(tuple[int, ...], about["shape"]) for name, about in header.items() if name[:2] != "__"}
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise WeightsError(str(path), f"cannot be read ({error!s:.160})", "fetch the file again") from None
