"""A layer as an ONNX graph: a query in, the transformed query and each labelled document's bonus out."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepmemory.errors import InputError, MissingExtraError
from deepmemory.exporting.facts import LayerFacts
from deepmemory.transform import QueryMemory

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

__all__ = ["onnx_files"]

_OPSET, _IR = 18, 8
"""The oldest that scatter the largest of several values; ONNX Runtime has them since 1.14."""

_LARGEST_BYTES = 2**31 - 2**20
"""A model in one file is a protocol buffer, which has to stay below 2 GiB."""


def onnx_files(facts: LayerFacts, name: str) -> tuple[dict[str, bytes], list[str]]:  # noqa: ARG001
    """The file's content by ending, and what is to be said of it.

    The graph takes ``query`` (n, dim) float32 and gives ``transformed`` (n, dim), of unit norm, and, where the layer
    has a prior or a memory, ``bonus`` (n, n_labelled). The labelled documents' ids, in order, and what else is known
    are JSON in the model's metadata.

    Raises:
        MissingExtraError: the package ``onnx`` is not installed.
        InputError: the layer is too large for one file.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("exporting to ONNX", "onnx") from error

    notes = _notes(facts)
    graph = _Graph()
    moved = _transform(graph, facts)
    outputs = {"transformed": facts.layer.dimensions}
    if facts.layer.has_bonus:
        _bonus(graph, facts, moved)
        outputs["bonus"] = len(facts.document_ids)
    if graph.size > _LARGEST_BYTES:
        raise InputError(
            f"an ONNX file holds less than 2 GiB, and this layer has {graph.size / 2**30:.1f}; export it as numpy"
        )
    model = _model(graph, facts, outputs, notes)
    onnx.checker.check_model(model, full_check=True)
    return {".onnx": model.SerializeToString()}, notes


def _notes(facts: LayerFacts) -> list[str]:
    notes = ["Applied to any query it changes nothing but its length."] if facts.changes_nothing else []
    if facts.layer.has_bonus:
        notes.append(
            "The bonus of each labelled document is an output; adding it to hits, and fetching labelled documents that "
            "a search did not return, is left to the program that runs the graph."
        )
    if (words := facts.layer.words) is not None:
        notes.append(
            "The graph can't hold what the layer adds for words, since it sees vectors and no texts; the metadata has "
            f"the weight ({words.weight:.6g}) and the depth ({words.depth})."
        )
    return notes


class _Graph:
    """Nodes and constants, as they come."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.size = 0

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        self.size += value.nbytes
        return name

    def number(self, name: str, value: float) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.array(value, dtype=np.float32), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def directions(self, vectors: str, output: str, least: float) -> str:
        """Rows of unit norm; zeros where one is no longer than ``least``."""
        if not any(constant.name == "rows" for constant in self.constants):
            self.constant("rows", np.array([1], dtype=np.int64))
        norm = self.node("ReduceL2", [vectors, "rows"], f"{output}.norm", keepdims=1)
        is_long = self.node("Greater", [norm, self.number(f"{output}.least", least)], f"{output}.is_long")
        length = self.node(
            "Where", [is_long, norm, self.number(f"{output}.none", float("inf"))], f"{output}.length_or_infinity"
        )
        return self.node("Div", [vectors, length], output)


def _transform(graph: _Graph, facts: LayerFacts) -> str:
    vectors = "query"
    if facts.whole is not None:
        vectors = graph.node("MatMul", ["query", graph.constant("matrix", facts.whole)], "moved")
    if facts.offset is not None:
        vectors = graph.node("Add", [vectors, graph.constant("offset", facts.offset)], "moved.off")
    return graph.directions(vectors, "transformed", 0.0)


def _bonus(graph: _Graph, facts: LayerFacts, moved: str) -> None:
    """``prior + gain * max(0, nearest - threshold)`` for each labelled document."""
    batch = graph.node("Shape", ["query"], "batch", start=0, end=1)
    count = graph.constant("n_labelled", np.array([len(facts.document_ids)], dtype=np.int64))
    shape = graph.node("Concat", [batch, count], "bonus.shape", axis=0)
    zeros = graph.node("Expand", [graph.number("zero", 0.0), shape], "bonus.none")
    if (memory := facts.layer.memory) is not None:
        above = _above(graph, memory, moved, batch, zeros)
        zeros = graph.node("Mul", [above, graph.number("gain", memory.gain)], "bonus.memory")
    graph.node("Add", [zeros, graph.number("prior", facts.layer.prior)], "bonus")


def _above(graph: _Graph, memory: QueryMemory, moved: str, batch: str, zeros: str) -> str:
    """``max(0, nearest - threshold)``: the largest of a document's pairs is scattered over zeros."""
    seen = moved if memory.is_transformed else graph.directions("query", "unit_query", 0.0)
    off = graph.node("Sub", [seen, graph.constant("centre", memory.centre)], "off_centre")
    keys = graph.constant("keys", memory.keys.T)
    cosines = graph.node("MatMul", [graph.directions(off, "direction", 1e-12), keys], "cosines")
    by_pair = graph.node("Gather", [cosines, graph.constant("pair_key", memory.pair_key)], "cosines.by_pair", axis=1)
    weight = graph.constant("pair_weight", memory.pair_weight)
    weighed = graph.node("Mul", [by_pair, weight], "cosines.weighed")
    above = graph.node("Sub", [weighed, graph.number("threshold", memory.threshold)], "cosines.above")
    pairs = graph.constant("n_pairs", np.array([len(memory.pair_key)], dtype=np.int64))
    shape = graph.node("Concat", [batch, pairs], "pairs.shape", axis=0)
    document = graph.constant("pair_document", memory.pair_document.astype(np.int64))
    places = graph.node("Expand", [document, shape], "pairs.document")
    return graph.node("ScatterElements", [zeros, places, above], "bonus.above", axis=1, reduction="max")


def _model(graph: _Graph, facts: LayerFacts, outputs: dict[str, int], notes: list[str]) -> "ModelProto":
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in outputs.items()]
    query = helper.make_tensor_value_info("query", TensorProto.FLOAT, ["n", facts.takes])
    made = helper.make_graph(graph.nodes, "deep_memory", [query], values, graph.constants)
    model = helper.make_model(
        made,
        producer_name="deepmemory",
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR,
        doc_string="\n".join(facts.header(notes)),
    )
    words = facts.layer.words
    about = {
        "layer": facts.info.name,
        "dimensions": facts.takes,
        "distance": facts.layer.distance,
        "document_ids": facts.document_ids,
        "words": None if words is None else {"weight": words.weight, "depth": words.depth},
        "notes": notes,
    }
    helper.set_model_props(model, {f"deepmemory.{key}": json.dumps(value) for key, value in about.items()})
    return model
