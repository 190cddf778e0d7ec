"""A graph of ONNX that grows step by step: each step returns the name of what it makes.

Source of the steps: github.com/onnx/onnx, docs/Operators.md, opset 18.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from torch import Tensor

from esmcls.errors import MissingExtraError
from esmcls.files import atomic_path

OPSET: Final = 18
"""The first whose ScatterElements takes the larger of two."""
IR_VERSION: Final = 9
VECTORS: Final = "vectors"
PROBABILITIES: Final = "probabilities"
VALUES: Final = "values"


def require_onnx() -> ModuleType:
    """Return the package onnx.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        return importlib.import_module("onnx")
    except ImportError:
        raise MissingExtraError("export --format onnx", "onnx", "onnx") from None


@dataclass
class Graph:
    """Steps from `vectors`, float32 (n, width), to `probabilities`, float32 (n, classes), or to `values` (n, 1).

    Parameters
    ----------
    width, classes : int
    output : str
        What the result is called.
    """

    width: int
    classes: int
    output: str = PROBABILITIES
    nodes: list[Any] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.onnx = require_onnx()

    def constant(self, value: Tensor | npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Add numbers and return their name; a tensor is taken from its device."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        name = f"c{len(self.tensors)}"
        contiguous = np.ascontiguousarray(np.asarray(array, dtype=dtype)).reshape(np.shape(array))
        self.tensors.append(self.onnx.numpy_helper.from_array(contiguous, name))
        return name

    def step(self, kind: str, *inputs: str, **options: object) -> str:
        """Add an operation and return the name of its result."""
        name = f"x{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], **options))
        return name

    def linear(self, x: str, weight: Tensor, bias: Tensor) -> str:
        """Add x Wᵀ + b."""
        return self.step("Gemm", x, self.constant(weight), self.constant(bias), transB=1)

    def rounded(self, x: str, dtype: str) -> str:
        """Add what a cache does to a vector that it keeps in half precision."""
        if dtype != "float16":
            return x
        kinds = self.onnx.TensorProto
        return self.step("Cast", self.step("Cast", x, to=kinds.FLOAT16), to=kinds.FLOAT)

    def raised(self, x: str, pairs: Sequence[tuple[int, int]]) -> str:
        """Add, of pairs of columns (term, one that contains it), that none is below one that it contains."""
        if not pairs:
            return x
        lower, upper = np.array(pairs, dtype=np.int64).T
        values = self.step("Gather", x, self.constant(lower, np.int64), axis=1)  # (n, pairs)
        places = self.step("Expand", self.constant(upper[None], np.int64), self.step("Shape", values))
        return self.step("ScatterElements", x, places, values, axis=1, reduction="max")

    def save(self, path: Path, output: str, about: dict[str, str]) -> None:
        """Write the graph, whole or not at all, having made sure that it is one.

        Parameters
        ----------
        path : Path
        output : str
            Name of the step that makes the result.
        about : dict
            Kept as the model's metadata.
        """
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        self.nodes.append(helper.make_node("Identity", [output], [self.output]))
        ends = [
            [helper.make_tensor_value_info(name, kinds.FLOAT, ["n", size])]
            for name, size in ((VECTORS, self.width), (self.output, self.classes))
        ]
        graph = helper.make_graph(self.nodes, "esmcls", *ends, self.tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="esmcls")
        model.ir_version = IR_VERSION
        helper.set_model_props(model, about)
        self.onnx.checker.check_model(model)
        with atomic_path(path) as temporary:
            temporary.write_bytes(model.SerializeToString())
