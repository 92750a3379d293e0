"""What `fox1 tune` shows: the plan, the weights, the fit, the verdict."""

from __future__ import annotations

from typing import Any

from ...storage.wording import say
from ...tune.stored import StoredTuning
from ...tune.tune import Plan
from .terminal import new_console, new_table, print_table


def print_plan(plan: Plan) -> None:
    """What a tuning will take."""
    hours = plan.core_hours
    took = f"{hours:,.1f} core-hours" if hours >= 1 else f"{60 * hours:,.1f} core-minutes"
    across = f" and {plan.placements:,} across phases" if plan.placements else ""
    say(
        f"{plan.proxies:,} {plan.kind} trainings of {plan.proxy_tokens:,} tokens{across}, then {plan.validations:,} of "
        f"{plan.validation_tokens:,}: {plan.tokens:,} tokens, about {took}"
    )


def print_tuning(tuning: StoredTuning) -> None:
    """Verdict first, then what it rests on."""
    console = new_console()
    tune, fit, choice, verdict = tuning.tune, tuning.fit, tuning.choice, tuning.verdict
    console.print(verdict["line"] if verdict else "no verdict yet: run `fox1 tune` again until it ends", style="bold")
    if tuning.placement:
        console.print(tuning.placement["line"], style="bold")
    console.print(
        f"{tune['proxies']:,} {tune['kind']} trainings of {tune['proxy_tokens']:,} tokens, {tune['refined']:,} more near the "
        f"first choice; validated with "
        f"{tune['validation_tokens']:,} tokens and {tune['seeds']} seeds"
    )
    console.print()
    print_table(console, _weights(tune, choice))
    if fit:
        console.print()
        print_table(console, _quality(fit))
    if choice:
        console.print()
        for g in choice["gains"]:
            console.print(
                f"predicted against {g['against']}: {g['gain']:+.4f} bits per byte lower ({g['low']:+.4f} to {g['high']:+.4f})"
            )
    if verdict:
        console.print()
        print_table(console, _compared(verdict))
        console.print()
        print_table(console, _targets(verdict))
    if tuning.placement:
        console.print()
        print_table(console, _placement(tune, tuning.placement))
        if tuning.placement["compared"]:
            console.print()
            print_table(console, _compared(tuning.placement, "Validation of the order"))


def _weights(tune: dict[str, Any], choice: dict[str, Any] | None) -> Any:
    table = new_table("Weights, per cent of all tokens", "pool", "natural", "recipe", "found", "cap", "")
    found = dict(zip(choice["pools"], choice["weights"], strict=True)) if choice else {}
    for pool in tune["pools"]:
        name = pool["name"]
        note = ""
        if choice:
            note = "at its cap" if name in choice["at_cap"] else "at its floor" if name in choice["at_floor"] else ""
        table.add_row(
            name,
            f"{100 * pool['natural']:.2f}",
            f"{100 * pool['recipe']:.2f}",
            f"{100 * found[name]:.2f}" if name in found else "",
            f"{100 * pool['cap']:.2f}" if pool["cap"] < 1 else "",
            note,
        )
    return table


def _quality(fit: dict[str, Any]) -> Any:
    columns = ("Spearman", "best third", "regret", "rmse", "of the best", "noise", "spread", "kinds of regression")
    table = new_table("Fit, out of fold, bits per byte", "target", *columns)
    for q in fit["quality"]:
        kinds = ", ".join(f"{name} {100 * share:.0f} %" for name, share in q["shares"].items() if share > 0.005)
        figures = (f"{q[name]:.4f}" for name in ("regret", "rmse", "best_rmse", "noise", "spread"))
        table.add_row(q["target"], f"{q['spearman']:.3f}", f"{q['best_third']:.3f}", *figures, kinds)
    return table


def _placement(tune: dict[str, Any], placement: dict[str, Any]) -> Any:
    """Weights by phase, as the verdict has them."""
    word = placement["verdict"]
    table = new_table(f"Weights by phase, per cent of the phase: {word}", "pool", *placement["phases"])
    rows = placement["tables"][word]
    for k, pool in enumerate(tune["pools"]):
        table.add_row(pool["name"], *(f"{100 * row[k] / sum(row):.2f}" for row in rows))
    return table


def _compared(verdict: dict[str, Any], title: str = "Validation") -> Any:
    columns = ("mixture", "against", "difference", "from", "to", "smallest seen")
    table = new_table(f"{title}, bits per byte of the objective", *columns)
    for c in verdict["compared"]:
        figures = (f"{c[name]:+.4f}" for name in ("difference", "low", "high"))
        table.add_row(c["arm"], c["against"], *figures, f"{c['smallest']:.4f}")
    return table


def _targets(verdict: dict[str, Any]) -> Any:
    arms = verdict["arms"]
    table = new_table("Validation by target, bits per byte, mean of the seeds", "target", *arms)
    for t, name in enumerate(verdict["targets"]):
        table.add_row(name, *(f"{sum(seed[t] for seed in seeds) / len(seeds):.4f}" for seeds in arms.values()))
    return table
