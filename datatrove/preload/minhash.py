"""The executor, readers and writers, and the steps of dedupe with the kernels of signatures."""

from contextlib import suppress
from tempfile import TemporaryDirectory

import datatrove.executor
import datatrove.pipeline.readers
import datatrove.pipeline.writers  # noqa: F401

from ..compile_kernels import signatures

# What fails here fails again, and is reported, where a worker needs it.
with suppress(Exception), TemporaryDirectory() as folder:
    signatures(folder)
