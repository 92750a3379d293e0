"""The executor, readers and writers, and the quality filters with their kernels."""

from contextlib import suppress

import datatrove.executor
import datatrove.pipeline.readers
import datatrove.pipeline.writers  # noqa: F401

from ..compile_kernels import quality_filters

# What fails here fails again, and is reported, where a worker needs it.
with suppress(Exception):
    quality_filters()
