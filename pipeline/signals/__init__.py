"""Per-document facts, computed in one pass over Arrow string buffers by Numba kernels.

Every kernel takes a batch (UTF-8 bytes and int64 offsets) and returns columns; no Python object per document. Stored
facts are integers: ratios are formed from them by the filters, so no byte of the output depends on rounding.
"""
