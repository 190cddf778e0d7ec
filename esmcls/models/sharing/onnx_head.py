"""A head as ONNX: from the vectors of its encoder to the model's probabilities or numbers, with all scaling on the way.

vectors ─▶ as the cache rounds ─▶ scaled ─▶ hidden layers ─▶ logits ─▶ softmax, or a logistic a term and raised parents
                                                             number ─▶ on the scale of the training numbers
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from torch import Tensor, nn

from esmcls.errors import UsageError
from esmcls.heads.layers.linear import LinearHead
from esmcls.heads.layers.mlp import MLPHead
from esmcls.heads.layers.network import Network
from esmcls.heads.layers.number_mlp import NumberMLPHead
from esmcls.heads.layers.number_ridge import RidgeHead
from esmcls.heads.layers.ridge import Scaling
from esmcls.heads.layers.term_multitask import Tasks
from esmcls.heads.layers.trained import TermNetworkHead
from esmcls.heads.number_scale import NumberScale
from esmcls.heads.whitening import Whitening
from esmcls.labels.kinds import NUMBER
from esmcls.models.model import Model
from esmcls.models.sharing.onnx_graph import PROBABILITIES, VALUES, VECTORS, Graph
from esmcls.version import __version__

_EPSILON: Final = 1e-9
"""The least length that a whitened row is divided by, as heads have it."""
_LARGEST: Final = (1 << 31) - (1 << 20)
"""Bytes that a file of ONNX may have; a little less."""


def write_onnx(path: Path, model: Model) -> None:
    """Write the head of a model: linear, mlp and multitask, of one label or of terms; ridge and mlp, of numbers.

    Raises
    ------
    UsageError
        If the head is another, or reads more than one vector a protein.
    MissingExtraError
        If onnx is not installed.
    """
    build = _builder_of(model)
    if build is None or model.manifest.others:
        problem = f"model {model.name}: its head, {model.head_name}, has no form in ONNX"
        raise UsageError(
            f"{problem}; fit {'ridge or mlp' if model.task.kind == NUMBER else 'linear, mlp or multitask'}"
        )
    if model.manifest.config.get("attention"):
        problem = f"model {model.name}: its head weighs the chunks of a protein, where ONNX is given one vector of it"
        raise UsageError(f"{problem}; fit without attention")
    numbers = model.task.kind == NUMBER
    graph = Graph(model.spec.width, 1 if numbers else len(model.classes), VALUES if numbers else PROBABILITIES)
    output = build(graph, graph.rounded(VECTORS, model.spec.dtype))
    size = sum(len(tensor.raw_data) for tensor in graph.tensors)
    if size > _LARGEST:
        raise UsageError(f"model {model.name}: {size:,} bytes of weights; ONNX holds 2 GB in one file at most")
    graph.save(path, output, _about(model))


def _builder_of(model: Model) -> Callable[[Graph, str], str] | None:
    """Return what adds a head to a graph, behind the vectors."""
    head = model.head
    if isinstance(head, LinearHead):
        return lambda graph, x: _linear(graph, x, head)
    if isinstance(head, MLPHead):
        return lambda graph, x: _softmax(graph, _network(graph, x, head.network), head.chosen.temperature)
    if isinstance(head, RidgeHead):
        return lambda graph, x: _restored(
            graph, graph.linear(_scaled(graph, x, head.scaling), head.weight, head.bias), head.scale
        )
    if isinstance(head, NumberMLPHead):
        return lambda graph, x: _restored(graph, _network(graph, x, head.network), head.scale)
    if isinstance(head, TermNetworkHead):
        return lambda graph, x: _terms(graph, x, head, model)
    return None


def _about(model: Model) -> dict[str, str]:
    spec = model.spec
    return {
        "classes": json.dumps(model.classes),
        "encoder": spec.encoder,
        "encoder_digest": spec.digest,
        "esmcls": __version__,
        "layers": json.dumps(spec.layers),
        "long": spec.long,
        "model": model.name,
        "pooling": model.manifest.pooling,
    }


def _linear(graph: Graph, x: str, head: LinearHead) -> str:
    logits = graph.linear(_scaled(graph, x, head.scaling), head.model.weight, head.model.bias)
    return _softmax(graph, logits, head.chosen.temperature)


def _terms(graph: Graph, x: str, head: TermNetworkHead, model: Model) -> str:
    """Add the network, the calibration, and that no term is less probable than one that it contains."""
    network = head.network
    if isinstance(network, Tasks):
        hidden = graph.step("Relu", _network(graph, x, network.trunk))
        logits = graph.linear(hidden, network.out.weight, network.out.bias)
    else:
        assert isinstance(network, Network)
        logits = _network(graph, x, network)
    slope = 1.0 if head.chosen.slope is None else head.chosen.slope
    shift = 0.0 if head.chosen.shift is None else head.chosen.shift
    calibrated = graph.step("Add", graph.step("Mul", logits, graph.constant(slope)), graph.constant(shift))
    return graph.raised(graph.step("Sigmoid", calibrated), _containing(model))


def _containing(model: Model) -> list[tuple[int, int]]:
    """Return all pairs of columns (term, one that contains it, at whatever distance)."""
    ontology = model.task.ontology
    parents: dict[int, list[int]] = {}
    for child, parent in [] if ontology is None else ontology.edges(model.classes).tolist():
        parents.setdefault(child, []).append(parent)
    pairs = []
    for child in parents:
        above: set[int] = set()
        waiting = list(parents[child])
        while waiting:
            code = waiting.pop()
            if code not in above:
                above.add(code)
                waiting += parents.get(code, [])
        pairs += [(child, code) for code in sorted(above)]
    return pairs


def _scaled(graph: Graph, x: str, scaling: Scaling | Whitening) -> str:
    scale = scaling.matrix if isinstance(scaling, Whitening) else scaling.deviation
    return _standardised(graph, x, scaling.mean, scale)


def _standardised(graph: Graph, x: str, mean: Tensor, scale: Tensor) -> str:
    """Add the division by deviations (width,), or the whitening by a matrix (width, dims) to mean square 1."""
    centred = graph.step("Sub", x, graph.constant(mean))
    if scale.dim() == 1:
        return graph.step("Div", centred, graph.constant(scale))
    whitened = graph.step("MatMul", centred, graph.constant(scale))
    length = graph.step("ReduceL2", whitened, graph.constant([1], np.int64), keepdims=1)
    unit = graph.step("Div", whitened, graph.step("Max", length, graph.constant(_EPSILON)))
    return graph.step("Mul", unit, graph.constant(math.sqrt(len(mean))))


def _network(graph: Graph, x: str, network: Network) -> str:
    """Add scaling, hidden layers and the layer of the logits."""
    x = _standardised(graph, x, network.mean, network.scale)
    for layer in network.hidden:
        for module in layer.children():
            x = _module(graph, x, module)
    return graph.linear(x, network.out.weight, network.out.bias)


def _module(graph: Graph, x: str, module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return graph.linear(x, module.weight, module.bias)
    if isinstance(module, nn.LayerNorm):
        sides = graph.constant(module.weight), graph.constant(module.bias)
        return graph.step("LayerNormalization", x, *sides, epsilon=module.eps)
    if isinstance(module, nn.BatchNorm1d):
        assert module.running_mean is not None
        assert module.running_var is not None
        measured = (module.weight, module.bias, module.running_mean, module.running_var)
        return graph.step("BatchNormalization", x, *map(graph.constant, measured), epsilon=module.eps)
    return graph.step("Relu", x) if isinstance(module, nn.ReLU) else x  # else dropout, or no norm


def _restored(graph: Graph, x: str, scale: NumberScale) -> str:
    """Add that a standardised number becomes one of the data's own scale."""
    return graph.step("Add", graph.step("Mul", x, graph.constant(scale.spread)), graph.constant(scale.centre))


def _softmax(graph: Graph, logits: str, temperature: float | None) -> str:
    return graph.step("Softmax", graph.step("Div", logits, graph.constant(temperature or 1.0)), axis=1)
