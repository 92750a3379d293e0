"""A plan as tables."""

from __future__ import annotations

from rich.table import Table

from ...pipeline.capacity.estimate import Actual, CapacityPlan
from .terminal import new_console, new_table

ENOUGH_BYTES = 5e6
"""Of text: on less, the fixed cost of each task hides what its text takes."""


def print_plan(plan: CapacityPlan, then: Actual | None) -> None:
    """Print a plan, beside what a run took where one is given."""
    console = new_console()
    for table in (_corpora(plan), _stages(plan, then), _disk(plan, then), _pools(plan), _training(plan)):
        if table.row_count:
            console.print(table)
            console.print()
    rates = plan.rates
    measured = sum(corpus["text"] for corpus in rates.corpora.values())
    if measured < ENOUGH_BYTES:
        console.print(
            f"The rates come from only {_size(measured)} of text: take this plan as a rough guess, or measure on more with "
            "--sample.",
            style="yellow",
        )
    console.print("Assumptions", style="bold")
    for line in (
        f"rates: measured here on {rates.source}, {100 * rates.sample_share:.2g} % of the stored bytes; the planned machines "
        "have cores like this one's",
        "work: spread evenly over the cores, with storage that keeps up with them",
        "survivors of dedupe: as in the sample, which holds few of the duplicates, unless the recipe's `expected` states "
        "them",
        f"memory: a task of dedupe stays within {_size(plan.memory_bytes)} (`--memory`); "
        f"the largest task of the sample took {_size(plan.largest_task_bytes)}",
        f"training: {plan.gpus} x {plan.gpu} at {100 * plan.utilisation:.0f} % of the dense bf16 peak by causal FLOPs, "
        "a share that is assumed, not measured",
    ):
        console.print(f"  - {line}")


def _corpora(plan: CapacityPlan) -> Table:
    table = new_table("Inputs", "corpus", "files", "stored", "text", "documents", "tokens kept", "figures from")
    for c in plan.corpora:
        table.add_row(
            c.name,
            f"{c.files:,}",
            _size(c.stored_bytes),
            _size(c.text_bytes),
            f"{c.documents:,.0f}",
            f"{c.kept_tokens:,.0f}",
            c.source,
        )
    return table


def _stages(plan: CapacityPlan, then: Actual | None) -> Table:
    columns = ["stage", "tasks", "core-hours", "wall"]
    if then:
        columns += ["tasks, actual", "core-hours, actual", "wall, actual"]
    table = new_table(f"Curation on {plan.nodes} x {plan.cores} cores", *columns)

    def row(name: str, tasks: str, cpu: float, wall: float, real: tuple[str, float, float] | None) -> None:
        cells = [name, tasks, f"{cpu / 3600:,.4g}", _time(wall)]
        if then:
            cells += [real[0], f"{real[1] / 3600:,.4g}", _time(real[2])] if real else ["", "", ""]
        table.add_row(*cells)

    for s in plan.stages:
        real = then.stages.get(s.name) if then else None
        row(
            s.name,
            f"{s.tasks:,.0f}",
            s.cpu_seconds,
            s.wall_seconds,
            (f"{real[0]:,}", real[1], real[2]) if real else None,
        )
    row("start and stop", "", 0.0, plan.start_seconds, None)
    total = None
    if then:
        total = ("", sum(s[1] for s in then.stages.values()), then.wall_seconds)
    row("all", "", plan.cpu_seconds, plan.wall_seconds, total)
    if then:
        table.caption = f"wall: the plan says {plan.wall_seconds / then.wall_seconds:.2f} times what the run took"
        table.caption_justify = "left"
    return table


def _disk(plan: CapacityPlan, then: Actual | None) -> Table:
    table = new_table("Bytes and files of the run", "folder", "planned", *(["actual"] if then else []))
    for folder, size in plan.folders.items():
        table.add_row(folder, _size(size), *([_size(then.folders.get(folder, 0.0))] if then else []))
    table.add_row("all", _size(plan.disk_bytes), *([_size(sum(then.folders.values()))] if then else []))
    table.add_row("of which shuffle", _size(plan.shuffle_bytes), *([""] if then else []))
    table.add_row("files", f"{plan.objects:,.0f}", *([f"{then.objects:,}"] if then else []))
    return table


def _pools(plan: CapacityPlan) -> Table:
    table = new_table(
        "Pools by what is expected to survive", "phase", "pool", "wanted", "expected", "epochs", "allowed", ""
    )
    for n in plan.needs:
        epochs = f"{n.epochs:.2f}" if n.available else "-"
        note = "short" if n.short else ""
        table.add_row(n.phase, n.pool, f"{n.wanted:,}", f"{n.available:,}", epochs, f"{n.max_epochs:g}", note)
    return table


def _training(plan: CapacityPlan) -> Table:
    table = new_table(f"Training on {plan.gpus} x {plan.gpu}", "phase", "tokens", "FLOPs", "GPU-hours", "days")
    for p in plan.phases:
        table.add_row(p.name, f"{p.tokens:,}", f"{p.flops:.3g}", f"{p.gpu_hours:,.4g}", f"{p.days:,.3g}")
    hours, days = sum(p.gpu_hours for p in plan.phases), sum(p.days for p in plan.phases)
    table.add_row("all", f"{sum(p.tokens for p in plan.phases):,}", "", f"{hours:,.4g}", f"{days:,.3g}")
    return table


def _size(value: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if value >= size:
            return f"{value / size:,.3g} {unit}"
    return f"{value:.0f} B"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h" if seconds < 172_800 else f"{seconds / 86_400:,.1f} days"
