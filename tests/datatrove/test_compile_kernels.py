"""What is run once for a machine compiles every kernel of these steps."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

from fox1.datatrove import compile_kernels, kernels
from fox1.datatrove.pipeline.dedup import minhash
from numba.core.registry import CPUDispatcher


def called(module: ModuleType) -> set[str]:
    """Names that the plain functions of a module use."""
    functions = [f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__]
    return {name for f in functions for name in f.__code__.co_names}


def test_every_kernel_that_python_calls_is_compiled() -> None:
    compile_kernels.main()
    names = [f"{kernels.__name__}.{m.name}" for m in pkgutil.iter_modules(kernels.__path__)]
    entries = {
        f"{module.__name__}.{name}": kernel
        for module in (*map(importlib.import_module, names), minhash)
        for name, kernel in vars(module).items()
        if isinstance(kernel, CPUDispatcher) and name in called(module)
    }
    assert len(entries) > 12
    assert [name for name, kernel in entries.items() if not kernel.signatures] == []
