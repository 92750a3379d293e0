"""`fox1 doctor`: is this machine ready? Each check says what it found and, where something is missing, what to do."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import typer
from packaging.requirements import Requirement

from ..storage import store
from ..storage.wording import first_line, say
from .options import RayAddress

State = Literal["ok", "note", "missing"]
"""`note`: something works in another way or only in part; `missing`: a command that needs it fails."""
CORPORA = ("redpajama", "slimpajama", "dolma", "pile", "refinedweb")
OPTIONAL = {"s3": "data in S3", "eval": "`fox1 eval`", "tensorboard": "training curves", "wandb": "training curves"}
TASK_MEMORY = 1 << 30
FREE_BYTES = 20 << 30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    remedy: str = ""


def check_machine(address: str | None = None) -> Iterator[Check]:
    """All checks, in order, each as soon as it is made.

    Args:
        address: of a Ray cluster to look at; None: a local session is started and ended.
    """
    yield _python()
    yield from _packages()
    yield from _memory()
    yield from _disk()
    yield _kernels()
    yield _ray(address)
    yield _gpu()
    yield from _data()
    yield _tokenizer()
    yield from _credentials()


def _python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} on {platform.machine()}, {os.cpu_count()} cores")


def _packages() -> Iterator[Check]:
    required, extra = [], dict[str, list[Requirement]]()
    for line in importlib.metadata.requires("fox1") or ():
        requirement = Requirement(line)
        if requirement.marker is None:
            required.append(requirement)
        for name in OPTIONAL:
            if requirement.marker and requirement.marker.evaluate({"extra": name}):
                extra.setdefault(name, []).append(requirement)
    lacking = list(filter(None, map(_lacks, required)))
    if lacking:
        yield Check(
            "packages",
            "missing",
            "; ".join(lacking),
            "run `make install` in the checkout, or install the fox1 wheel again",
        )
    else:
        yield Check("packages", "ok", ", ".join(f"{n} {_version(n)}" for n in ("ray", "pyarrow", "numba", "torch")))
    for name, requirements in extra.items():
        if any(map(_lacks, requirements)):
            yield Check(
                f"extra {name}", "note", f"not installed; needed for {OPTIONAL[name]}", f"pip install 'fox1[{name}]'"
            )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _lacks(requirement: Requirement) -> str:
    version = _version(requirement.name)
    if not version:
        return f"{requirement.name} is not installed"
    fits = requirement.specifier.contains(version, prereleases=True)
    return "" if fits else f"{requirement.name} {version} is not {requirement.specifier}"


def _memory() -> Iterator[Check]:
    from ..pipeline.engine.memory import machine_memory

    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        total = machine_memory()
    except (ValueError, OSError):
        return
    fit = total // TASK_MEMORY
    cores = os.cpu_count() or 1
    found = f"{total / 2**30:.1f} GiB, {min(free, total) / 2**30:.1f} free"
    if fit < 2:
        yield Check("memory", "missing", found, "a task needs 1 GiB; add memory")
    elif fit < cores:
        yield Check(
            "memory", "note", found, f"{fit} tasks of 1 GiB fit, fewer than there are cores; pass --workers {fit}"
        )
    else:
        yield Check("memory", "ok", found)


def _disk() -> Iterator[Check]:
    for name, folder in (("disk here", Path.cwd()), ("scratch", store.scratch().parent)):
        there = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(there).free
        found = f"{free / 2**30:.0f} GiB free at {there}"
        if not os.access(there, os.W_OK):
            yield Check(
                name, "missing", f"{there} cannot be written", "choose another folder (FOX1_SCRATCH for scratch)"
            )
        elif free < FREE_BYTES:
            yield Check(
                name,
                "note",
                found,
                "a run takes about 1.5 times the size of its stored inputs; `fox1 plan RECIPE` estimates it",
            )
        else:
            yield Check(name, "ok", found)


def _kernels() -> Check:
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        return Check("kernels", "missing", str(error), "set NUMBA_CACHE_DIR to a writable folder")
    if not any(folder.rglob("*.nbi")):
        return Check(
            "kernels",
            "note",
            f"none compiled in {folder}",
            "run `python -m fox1.commands.compile_kernels` (about a minute)",
        )
    return Check("kernels", "ok", f"compiled in {folder}")


def _ray(address: str | None) -> Check:
    from ..pipeline.engine.on_ray import ray_session

    where = address or os.environ.get("RAY_ADDRESS") or ""
    try:
        with ray_session(address, 1) as executor:
            import ray

            host = ray.get(ray.remote(num_cpus=1)(platform.node).remote(), timeout=60)
            return Check(
                "ray",
                "ok",
                f"a task ran on {host}; {executor.cores} cores in the {'cluster' if where else 'trial session'}",
            )
    except Exception as error:
        first = first_line(error)
        remedy = "`fox1 curate --in-process` needs no Ray"
        if where:
            remedy = f"check that the cluster at {where} is running, with the same version of Ray"
        return Check("ray", "missing", first[:200], remedy)


def check_training() -> Iterator[Check]:
    """A few layers of Fox-1 as it is trained on the device of this machine, against plain ones; takes a minute."""
    import torch.distributed as dist

    from ..trainer.checks.device import check_device
    from ..trainer.parallel import start_processes
    from ..trainer.settings import ModelSettings, OptimizerSettings, ScheduleSettings, TrainSettings

    device = start_processes()
    shape, pieces, block = ModelSettings(), 16_000, 2048
    here = _gpu()
    if device.type == "cpu":
        # Asked for a GPU, this machine fails; what is computed on its CPU is compared all the same.
        here = replace(here, state="missing", remedy="what follows is computed on the CPU, and says nothing of a GPU")
        shape, pieces, block = replace(shape, hidden=256, intermediate=704, heads=4, kv_heads=2, head_dim=64), 2000, 512
    yield here
    optimizer = OptimizerSettings(learning_rate=1e-3)
    settings = TrainSettings(shape, (), 1, optimizer, ScheduleSettings(warmup_steps=1))
    try:
        for finding in check_device(settings, pieces, block, device):
            state: State = "ok" if finding.right else "missing"
            remedy = "" if finding.right else "training on this device would go wrong; try another version of torch"
            yield Check(finding.name, state, f"{device.type}: {finding.found}", remedy)
    except Exception as error:
        yield Check("training", "missing", first_line(error)[:200], "try another version of torch, or of the driver")
    finally:
        dist.destroy_process_group()


def _gpu() -> Check:
    import torch

    from ..trainer.watch.metrics import peak_flops

    if not torch.cuda.is_available():
        why = "no NVIDIA driver or device was found" if torch.version.cuda else f"torch {torch.__version__} has no CUDA"
        remedy = "train tiny models only; see docs/training.md"
        return Check("gpu", "note", f"none ({why}); training runs on the CPU", remedy)
    name = torch.cuda.get_device_name()
    if not torch.cuda.is_bf16_supported():
        return Check("gpu", "missing", f"{name} cannot compute in bf16", "use an A100, H100 or newer")
    if peak_flops(name) is None:
        return Check(
            "gpu",
            "note",
            f"{name}, whose peak FLOP/s is not known",
            "MFU is not reported; see PEAK_FLOPS in trainer/watch/metrics.py",
        )
    return Check("gpu", "ok", f"{torch.cuda.device_count()} x {name}")


def _data() -> Iterator[Check]:
    root = os.environ.get("FOX1_DATA")
    if not root:
        yield Check(
            "data", "note", "FOX1_DATA is not set", "export FOX1_DATA=FOLDER, or start with `fox1 sample FOLDER`"
        )
        return
    folder = store.open_root(root)
    lacking = [name for name in CORPORA if not (folder / name).is_dir()]
    if lacking:
        yield Check(
            "data", "missing", f"{root} has no {', '.join(lacking)}", "lay out the corpora as docs/recipes.md describes"
        )
    else:
        yield Check("data", "ok", f"the five corpora are in {root}")


def _tokenizer() -> Check:
    name = os.environ.get("FOX1_TOKENIZER")
    if not name:
        return Check(
            "tokenizer",
            "note",
            "FOX1_TOKENIZER is not set",
            "fox1.yaml needs Gemma's .model file; the other recipes train their own",
        )
    from ..tokenize.model import load

    try:
        return Check("tokenizer", "ok", f"{name}: {load(name).get_piece_size():,} pieces")
    except (ValueError, OSError) as error:
        return Check("tokenizer", "missing", first_line(error), "set FOX1_TOKENIZER to a SentencePiece model")


def _credentials() -> Iterator[Check]:
    if _version("s3fs"):
        found = _aws()
        remedy = "" if found else "run `aws configure`, or export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        yield Check("s3", "ok" if found else "note", found or "no credentials", remedy)
    token = os.environ.get("HF_TOKEN") or (Path.home() / ".cache" / "huggingface" / "token").exists()
    found = "a token is set" if token else "no token"
    yield Check(
        "hugging face", "ok" if token else "note", found, "" if token else "export HF_TOKEN=... for gated data sets"
    )
    if os.environ.get("RAY_AUTH_TOKEN") or (Path.home() / ".ray" / "auth_token").exists():
        yield Check("ray token", "ok", "a token is set")
    elif os.environ.get("RAY_AUTH_MODE") == "token":
        remedy = "export RAY_AUTH_TOKEN_PATH, or run `ray get-auth-token --generate`"
        yield Check("ray token", "missing", "RAY_AUTH_MODE is token, but no token is set", remedy)


def _aws() -> str:
    """Where credentials of AWS come from; never what they are."""
    import botocore.session

    try:
        found = botocore.session.get_session().get_credentials()
    except Exception as error:
        return f"unusable: {type(error).__name__}"
    return f"credentials by {found.method}" if found else ""


def report(checks: Iterator[Check], show: Callable[[str], None]) -> bool:
    """Show checks as they come; whether nothing is missing."""
    fine = True
    for check in checks:
        fine &= check.state != "missing"
        show(f"{check.state:8}{check.name:14}{check.found}")
        if check.remedy:
            show(f"{'':22}-> {check.remedy}")
    return fine


def doctor(
    address: RayAddress = None,
    gpu: Annotated[
        bool,
        typer.Option("--gpu", help="Compute a few layers of Fox-1 and compare them with plain ones, instead."),
    ] = False,
) -> None:
    """Check whether this machine is ready, and say what to do.

    The checks are of Python, packages, memory, disk, Ray, GPU, data, tokenizer and credentials. With --gpu
    they are of the training on this machine's device: attention, compiled and sharded layers, collectives
    and a checkpoint. The exit status is 1 if something is missing or wrong, a GPU for --gpu included.
    """
    if not report(check_training() if gpu else check_machine(address), say):
        raise typer.Exit(1)
