"""A layer as files that other programs apply: plain NumPy, ONNX, SQL for PostgreSQL with pgvector, and TypeScript."""

from deepmemory.exporting.export import FORMATS, Exported, Format, export_layer, export_saved
from deepmemory.exporting.facts import QueryMap
from deepmemory.exporting.sql_target import SqlTarget

__all__ = ["FORMATS", "Exported", "Format", "QueryMap", "SqlTarget", "export_layer", "export_saved"]
