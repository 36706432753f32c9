"""SHA-256 of a table's values in row order: the same for any batch size, file layout or number of threads.

Each column is three streams (which rows are present, the values, and for text its lengths), each with a running
hash; the digest is the hash of a header and of all of these. Parquet or Arrow bytes would not do: they change
with the writer, its version and the size of its batches.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


class TableDigest:
    """Feed it record batches in key order with ``update``, then ask ``hexdigest``.

    about: facts that belong to the content, hashed with it (JSON-ready). Raises TypeError for nested columns.
    """

    def __init__(self, schema: pa.Schema, about: Mapping[str, Any] | None = None) -> None:
        self._names = schema.names
        self._header = json.dumps(
            {"about": dict(about or {}), "columns": [[f.name, _type_name(f.type)] for f in schema]},
            sort_keys=True,
            ensure_ascii=True,
        )
        self._streams = {name: (hashlib.sha256(), hashlib.sha256(), hashlib.sha256()) for name in self._names}
        self.rows = 0

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the next rows."""
        self.rows += batch.num_rows
        for name in self._names:
            column = batch.column(name)
            present, values, lengths = self._streams[name]
            present.update(column.is_valid().cast(pa.uint8()).to_numpy(zero_copy_only=False).data)
            if _is_text(column.type):
                data, sizes = _text_bytes(column)
                values.update(data)
                lengths.update(sizes.data)
            else:
                values.update(_fixed_bytes(column).data)

    def hexdigest(self) -> str:
        total = hashlib.sha256(self._header.encode())
        total.update(self.rows.to_bytes(8, "little"))
        for name in self._names:
            for stream in self._streams[name]:
                total.update(stream.digest())
        return total.hexdigest()


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _type_name(kind: pa.DataType) -> str:
    return "string" if _is_text(kind) else str(kind)


def _text_bytes(column: pa.Array) -> tuple[memoryview, NDArray[Any]]:
    """The texts' UTF-8 bytes one after another, and the length of each in bytes; a null has length 0."""
    filled = pc.fill_null(column.cast(pa.large_string()), "")
    offsets = np.frombuffer(filled.buffers()[1], dtype="<i8")[filled.offset : filled.offset + len(filled) + 1]
    data = filled.buffers()[2]
    if not len(filled) or data is None:
        return memoryview(b""), np.zeros(len(filled), dtype="<i8")
    return memoryview(data)[int(offsets[0]) : int(offsets[-1])], np.diff(offsets)


def _fixed_bytes(column: pa.Array) -> NDArray[Any]:
    """The values of a fixed-width column, nulls as zero, every NaN as the same NaN."""
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif pa.types.is_date32(kind):
        column = column.cast(pa.int32())
    elif pa.types.is_timestamp(kind):
        column = column.cast(pa.int64())
    elif pa.types.is_decimal(kind):
        return _decimal_bytes(column)
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise TypeError(f"no canonical bytes for a column of type {kind}")
    values = pc.fill_null(column, 0).to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), np.nan, values)
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))


def _decimal_bytes(column: pa.Array) -> NDArray[Any]:
    column = pc.fill_null(column, 0).cast(pa.decimal128(38, column.type.scale))
    raw = np.frombuffer(column.buffers()[1], dtype="<i8")
    return np.ascontiguousarray(raw[2 * column.offset : 2 * (column.offset + len(column))])
