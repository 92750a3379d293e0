"""`fox1 train --plan`: what a training will do, and nothing done."""

from __future__ import annotations

from pathlib import Path

from fox1.recipes.check import memory_line
from fox1.recipes.load import load_recipe

from tests.conftest import run_command
from tests.trainer.test_curriculum import write_run


def test_a_plan_says_steps_rate_and_memory_and_trains_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    words = ["train", tmp_path / "run", "--out", tmp_path / "ckpt", "--plan", "--set", "optimizer.name=muon"]
    done = run_command(*words, "--nproc", 3)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "phase1: 4 steps of 256 tokens, blocks of 64; 1 micro-batch of 128 tokens a step on each of 3 processes"
    )
    assert lines[1] == "  1 of 3 micro-batches of a step count for nothing"
    assert "blocks of 32, 128; 2 micro-batches of 128 tokens" in done.stdout
    assert "rate 1.00e-03 (muon): warm-up over 768 tokens (3 steps, phase1); linear decay" in done.stdout
    assert (
        "memory of a GPU of 3, in GB: weights 0.000" in done.stdout
        and "`auto` is `none` on a GPU of 80 GB" in done.stdout
    )
    assert not (tmp_path / "ckpt").exists()


def test_a_check_of_the_full_recipe_says_what_a_gpu_needs() -> None:
    recipe, _ = load_recipe("fox1", [], {"FOX1_DATA": "/none", "FOX1_TOKENIZER": "/none"})
    assert "activation checkpointing that fits one: selective on 80 GB, none on 141 GB" in memory_line(recipe)
