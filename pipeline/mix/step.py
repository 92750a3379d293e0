"""One step of the mix stage: a task per item, keyed by what its output depends on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..engine.tasks import Engine, Task, TaskResult, task_key

VERSION = 4
"""Of the whole mix stage."""


def run_step(
    engine: Engine,
    stage: str,
    items: Sequence[Any],
    call: Callable[[Any], tuple[Callable[..., TaskResult], tuple[Any, ...]]],
    inputs: Callable[[Any], tuple[Any, ...]],
    name: Callable[[Any], str] = lambda item: item.name,
) -> list[TaskResult]:
    """Run a task per item; results in the order of the items."""
    return engine.run(stage, step_tasks(stage, items, call, inputs, name))


def step_tasks(
    stage: str,
    items: Sequence[Any],
    call: Callable[[Any], tuple[Callable[..., TaskResult], tuple[Any, ...]]],
    inputs: Callable[[Any], tuple[Any, ...]],
    name: Callable[[Any], str] = lambda item: item.name,
) -> list[Task]:
    """The tasks of a step.

    Args:
        call: item -> (function, arguments).
        inputs: item -> everything the task's output depends on, as values a key can be made of.
        name: item -> name of the task, unique in the step.
    """
    tasks = []
    for item in items:
        function, args = call(item)
        tasks.append(Task(name(item), task_key(stage, VERSION, None, list(inputs(item))), function, args))
    return tasks
