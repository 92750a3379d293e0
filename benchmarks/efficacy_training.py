"""One (arm, seed) of benchmarks/efficacy.py: a training that a kill costs five minutes, and its lines of results.

order            what is trained on, unit by unit, for tier 3
Task             an arm with a seed
run              train and measure; every evaluation is a line of results.jsonl and a file of bits by document
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from fox1.benchmarks.efficacy_data import ORIGINAL, DomainPool, Place
from fox1.pipeline.mix.budget import largest_remainder
from fox1.trainer.data.mixture import MixtureData
from fox1.trainer.data.order import interleave, to_micro_batch
from fox1.trainer.settings import ModelSettings, OptimizerSettings
from fox1.tune.measured import Sequences
from fox1.tune.ngram import NgramModel
from fox1.tune.proxy import PoolPart, open_mixture
from fox1.tune.settings import MODEL, ProxySettings

ADAMW = OptimizerSettings(8e-3)
"""With which the experiment was planned, whatever proxies have now."""


@dataclass(frozen=True)
class Task:
    """An arm with a seed."""

    tier: str
    arm: str
    seed: int
    tokens: int
    pools: Mapping[str, DomainPool]
    """By domain."""
    shares: Mapping[str, float]
    kind: str = "model"
    phases: tuple[Mapping[str, float], ...] = ()
    """Tier 3: shares of the domains in every phase; `shares` is then not used."""

    @property
    def name(self) -> str:
        return f"{self.tier}:{self.arm}:{self.seed}"

    @property
    def key(self) -> str:
        """Its name as that of a file; of trainings that differ in length alone, each has its own."""
        return f"{self.tier}-{self.arm}-{self.seed}-{self.tokens}"


# --- the data ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Exposure:
    """How often each pool is read, in which phase. P phases, K pools."""

    domains: tuple[str, ...]
    quotas: np.ndarray
    """int64 [P, K]: units."""
    caps: tuple[int, ...]
    """Units of each pool that are used and repeated; 0: all."""


def exposure_of(task: Task, plan: Mapping[str, Any]) -> Exposure:
    """The quotas of a task, by phase."""
    units = task.tokens // plan["block_length"]
    domains = tuple(d for d in plan["domains"] if d in task.pools)
    if not task.phases:
        weights = [task.shares.get(d, 0.0) for d in domains]
        return Exposure(domains, np.array([largest_remainder(units, weights)]), (0,) * len(domains))
    own = plan["tier3"]
    each = largest_remainder(units, own["phases"])
    rows = [
        largest_remainder(n, [phase.get(d, 0.0) for d in domains]) for n, phase in zip(each, task.phases, strict=True)
    ]
    quotas = np.array(rows)
    caps = [int(np.ceil(q / own["epochs"].get(d, 1.0))) for d, q in zip(domains, quotas.sum(axis=0), strict=True)]
    return Exposure(domains, quotas, tuple(caps))


def order(quotas: np.ndarray, how: str, seed: int) -> np.ndarray:
    """The units of a mixture in the order in which they are trained on, int64 [n]; the same units for every `how`.

    The first units that are taken of a pool are those of the first phase, and so on.

    Args:
        quotas: int64 [P, K], by phase and pool.
        how: `shuffled`: at random; `phased`, `constant`: phase by phase, at random within each; `reversed`: the last phase first.
    """
    pool, number = interleave(np.arange(int(quotas.sum())), tuple(quotas.sum(axis=0).tolist()))
    ends = np.cumsum(quotas, axis=0)
    phase = (number[:, None] >= ends.T[pool]).sum(axis=1)
    rank = np.random.default_rng([seed, 3]).permutation(len(pool))
    if how == "shuffled":
        return np.argsort(rank)
    return np.lexsort((rank, -phase if how == "reversed" else phase))


class Ordered:
    """A mixture whose units are trained on in a given order."""

    def __init__(self, data: MixtureData, units: np.ndarray) -> None:
        self._data, self._units = data, units
        self.info, self.unit_tokens, self.units = data.info, data.unit_tokens, len(units)

    def micro_batch(self, first: int, count: int, device: Any) -> Any:
        """Units ``first .. first + count - 1`` of the order."""
        return to_micro_batch(self._data.stream_of(self._units[first : first + count]), device)


def open_data(task: Task, plan: Mapping[str, Any]) -> tuple[MixtureData, Exposure]:
    """The mixture of a task; the seed decides which units it draws of each pool."""
    exposed = exposure_of(task, plan)
    sums = exposed.quotas.sum(axis=0).tolist()
    parts = [
        PoolPart(task.pools[d].packed, quota, cap or task.pools[d].units)
        for d, quota, cap in zip(exposed.domains, sums, exposed.caps, strict=True)
    ]
    used = [k for k, quota in enumerate(sums) if quota]
    exposed = replace(
        exposed,
        domains=tuple(exposed.domains[k] for k in used),
        quotas=exposed.quotas[:, used],
        caps=tuple(exposed.caps[k] for k in used),
    )
    return open_mixture([parts[k] for k in used], task.seed + 1), exposed


# --- the measures -----------------------------------------------------------------------------------------------------


def summarised(sequences: Sequences, bits: np.ndarray) -> dict[str, Any]:
    """Bits per byte: `macro` (mean of the domains over both halves), `items` (mean of the benchmarks), `original`, and of each
    half and target."""
    count = len(sequences.targets)
    sums = np.bincount(sequences.target, bits, count), np.bincount(sequences.target, sequences.size, count)
    by = {t: (float(b), float(n)) for t, b, n in zip(sequences.targets, *sums, strict=True)}
    groups: dict[str, dict[str, list[float]]] = {}
    for target, (b, n) in by.items():
        half, domain = target.split("/", 1)
        for group in (half, *(["macro"] if half not in ("items", ORIGINAL) else [])):
            had = groups.setdefault(group, {}).setdefault(domain, [0.0, 0.0])
            had[0] += b
            had[1] += n
    values: dict[str, Any] = {g: float(np.mean([b / n for b, n in own.values()])) for g, own in groups.items()}
    values["by_domain"] = {d: b / n for d, (b, n) in groups["macro"].items()}
    values["by_item"] = {d: b / n for d, (b, n) in groups.get("items", {}).items()}
    return values


@dataclass(frozen=True)
class Results:
    """The lines of all trainings, and the bits of every document.

    Tests of the plan resample documents. So `keep` puts the bits of finished networks beside the lines, from where `take_up` brings
    both to another machine.
    """

    place: Place

    def take_up(self, kept: Path) -> None:
        """Begin with what is kept in a folder, unless there are results already."""
        lines, bits = self._kept(kept)
        if self.file.exists() or not lines.exists():
            return
        self.bits_folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(bits.glob("*.npy")):
            shutil.copy(path, self.bits_folder)
        shutil.copy(lines, self.file)

    def keep(self, kept: Path) -> None:
        """Copy all lines, and of every finished network the bits of its last evaluation."""
        lines, bits = self._kept(kept)
        bits.mkdir(parents=True, exist_ok=True)
        for line in self.lines():
            if line["kind"] == "model" and line["tokens"] == line["of_tokens"] and self.has_bits(line):
                path = self.bits_file(line["key"], line["tokens"])
                np.save(bits / path.name, np.load(path).astype(np.float32))
        shutil.copy(self.file, lines)

    def _kept(self, folder: Path) -> tuple[Path, Path]:
        """Where lines and bits are kept."""
        name = self.place.file.stem
        return folder / f"{name}.jsonl", folder / f"{name}-bits"

    @property
    def bits_folder(self) -> Path:
        return self.place.root / "bits"

    @property
    def file(self) -> Path:
        return self.place.root / "results.jsonl"

    def lines(self) -> list[dict[str, Any]]:
        """All lines; one that a full disk cut off is left out."""
        if not self.file.exists():
            return []
        found = []
        for line in self.file.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return found

    def has(self, task: Task, tokens: int) -> bool:
        """Whether a task was measured after so many tokens."""
        return any((v["key"], v["tokens"]) == (task.key, tokens) for v in self.lines())

    def has_bits(self, line: Mapping[str, Any]) -> bool:
        """Whether there are the bits of every document for a line."""
        return self.bits_file(line["key"], line["tokens"]).exists()

    def is_finished(self, task: Task) -> bool:
        """Whether a task was measured at its end. Of a network, the bits of every document must be there as well: a line alone,
        from a machine that is gone, says too little for the tests.
        """
        there = task.kind == "ngram" or self.bits_file(task.key, task.tokens).exists()
        return there and self.has(task, task.tokens)

    def bits_file(self, key: str, tokens: int) -> Path:
        """float [documents of the measures]."""
        return self.bits_folder / f"{key}-{tokens}.npy"

    def add(self, task: Task, tokens: int, sequences: Sequences, bits: np.ndarray, **facts: Any) -> None:
        """Keep the bits of every document, then the line."""
        path = self.bits_file(task.key, tokens)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, bits)
        if self.has(task, tokens):
            return
        line: dict[str, Any] = {"tier": task.tier, "arm": task.arm, "seed": task.seed, "tokens": tokens}
        line |= {"of_tokens": task.tokens, "kind": task.kind, "key": task.key, "plan": self.place.plan_hash}
        rounded = json.loads(json.dumps(summarised(sequences, bits)), parse_float=lambda v: round(float(v), 5))
        with open(self.file, "a") as file:
            file.write(json.dumps(line | facts | rounded) + "\n")
        print(f"{task.name} at {tokens:,}: macro {rounded['macro']:.4f}, items {rounded['items']:.4f}", flush=True)


# --- the trainings ----------------------------------------------------------------------------------------------------


def run(task: Task, place: Place, sequences: Sequences) -> None:
    """Train and measure; what is finished is not repeated.

    Raises:
        ValueError: a pool has changed, or is too small.
    """
    results = Results(place)
    if results.is_finished(task):
        return
    if task.kind == "ngram":
        data, _ = open_data(task, place.plan)
        model = NgramModel(data.info.vocab_size, data.units * data.unit_tokens)
        began = time.process_time()
        model.train_on(data)
        bits = sequences.bits(model.bits)
        results.add(task, task.tokens, sequences, bits, cpu_s=round(time.process_time() - began, 1))
        return
    _train(task, place, sequences, results)


def settings_of(task: Task, plan: Mapping[str, Any]) -> ProxySettings:
    """The network and its schedule."""
    own = plan["network"]
    decay = own["decay"]
    if task.phases:
        decay = 0.0 if task.arm == "constant" else plan["tier3"]["phases"][-1]
    model = ModelSettings(**own["model"]) if "model" in own else ModelSettings(**vars(MODEL))
    optimizer = replace(ADAMW, learning_rate=own["learning_rate"]) if "learning_rate" in own else ADAMW
    return ProxySettings(
        *("model", task.tokens, plan["block_length"], own["batch_tokens"], own["warmup"], decay),
        model=model,
        optimizer=optimizer,
    )


def _train(task: Task, place: Place, sequences: Sequences, results: Results) -> None:
    import torch
    from fox1.tune.model import NetworkTraining

    plan, (data, exposed) = place.plan, open_data(task, place.plan)
    units: Any = Ordered(data, order(exposed.quotas, task.arm, task.seed)) if task.phases else data
    training = NetworkTraining(units, settings_of(task, plan), task.seed + 1)
    path = place.root / "checkpoints" / f"{task.key}.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    spent, averaged = 0.0, dict[str, torch.Tensor]()
    if path.exists():
        state = torch.load(path, weights_only=True)
        training.restore(state)
        spent, averaged = state["cpu_s"], state["averaged"]
    marks = evaluation_steps(training.steps, plan["evaluations"])
    summed = averaged_steps(training.steps, plan) if task.arm == "constant" else []
    began = saved = time.process_time()

    def save() -> None:
        state = training.state() | {"cpu_s": spent + time.process_time() - began, "averaged": averaged}
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    while training.step < training.steps:
        training.advance(min([*(m for m in (*marks, *summed) if m > training.step), training.step + 100]))
        if training.step in summed:
            for name, value in training.model.state_dict().items():
                averaged[name] = averaged.get(name, 0.0) + value.double() / len(summed)
        if training.step in marks:
            if training.step == training.steps and summed:
                training.model.load_state_dict({k: v.float() for k, v in averaged.items()})
            tokens = task.tokens if training.step == training.steps else training.step * training.batch_tokens
            cpu = round(spent + time.process_time() - began, 1)
            results.add(task, tokens, sequences, sequences.bits(training.score), cpu_s=cpu)
        if training.step in (*marks, *summed) or time.process_time() - saved > plan["checkpoint_seconds"]:
            save()
            saved = time.process_time()
    path.unlink(missing_ok=True)


def cost(plan: Mapping[str, Any], vocabulary: int, measured: int) -> list[tuple[str, int, float]]:
    """(tier, tokens of all its trainings, hours) at the rate that the plan states, for a plan with an order of its own.

    Args:
        measured: tokens that an evaluation reads; one forward pass, a third of a training's work.
    """
    from fox1.trainer.model.model import flops_per_token

    own, sums = plan["network"], dict[str, int]()
    work = flops_per_token(ModelSettings(**own["model"]), vocabulary, plan["block_length"])
    for part in plan["order"]:
        tier = plan[part["tier"]]
        count = len(part["seeds"]) * len(part.get("arms", tier.get("arms", ())))
        sums[part["tier"]] = sums.get(part["tier"], 0) + count * (tier["tokens"] + plan["evaluations"] * measured // 3)
    return [(tier, tokens, tokens * work / (own["tflops"] * 1e12) / 3600) for tier, tokens in sums.items()]


def evaluation_steps(steps: int, count: int) -> list[int]:
    """The steps after which a training is measured, the last one among them."""
    return [steps * (k + 1) // count for k in range(count)]


def averaged_steps(steps: int, plan: Mapping[str, Any]) -> list[int]:
    """The steps after which `constant` takes the weights of which it averages, evenly over the last phase."""
    own = plan["tier3"]
    share, count = own["phases"][-1], own["averaged"]
    return [round(steps * (1 - share * (count - 1 - k) / count)) for k in range(count)]
