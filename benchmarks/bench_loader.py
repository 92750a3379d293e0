"""Loading blocks: tokens per second and memory, against HF datasets with a DataLoader and MosaicML Streaming.

    python -m benchmarks.bench_loader [--tokens 256Mi] [--seconds 5] [--mosaic VENV]

The same blocks of 2,048 tokens for all: fox1's set as curate writes it, the same folder through `datasets.load_from_disk`, and
an MDS copy. In order and shuffled, batches of 16 blocks, one process. Each loader runs in a process of its own, whose
largest resident memory is reported (mapped pages of the data count). All give the tokens and where the documents of a
block end; `datasets` is measured with tokens alone, too. MosaicML Streaming runs in an environment of its own, since its
requirements conflict: `--mosaic` names one, else it is made beside the data. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from fox1.benchmarks.blocks import write_set
from fox1.recipes.units import quantity

LENGTH = 2048
BATCH = 16
ENDS = (700 / LENGTH, 1500 / LENGTH, 1.0)
"""Of the three documents of a block."""

FOX1 = """
import sys, time, torch
from pathlib import Path
from fox1.trainer.data.order import PhaseData
folder, mode, seconds, batch = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
data = PhaseData(folder, 1)
first = data.units if "shuffled" in mode else 0
def read(i):
    at = first + i * batch % (data.units - batch)
    stream = data.stream(at, batch)
    return len(stream.tokens), stream.ends
"""
DATASETS = """
import sys, time, torch, datasets
folder, mode, seconds, batch = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
columns = ["input_ids"] if mode.endswith("only") else ["input_ids", "doc_ends"]
data = datasets.load_from_disk(folder)["2048"].select_columns(columns).with_format("torch")
def collate(rows):
    return {"input_ids": torch.stack([r["input_ids"] for r in rows]), "doc_ends": [r["doc_ends"] for r in rows]}
how = {} if mode.endswith("only") else {"collate_fn": collate}
loader = torch.utils.data.DataLoader(data, batch_size=batch, shuffle="shuffled" in mode, num_workers=0, **how)
def batches():
    while True:
        yield from loader
it = batches()
def read(i):
    return next(it)["input_ids"].numel(), None
"""
MOSAIC = """
import sys, time, torch
from streaming import StreamingDataset
folder, mode, seconds, batch = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
data = StreamingDataset(local=folder, shuffle=mode == "shuffled", batch_size=batch)
def collate(rows):
    tokens = torch.stack([torch.from_numpy(r["tokens"].copy()) for r in rows])
    return {"tokens": tokens, "ends": [r["ends"] for r in rows]}
loader = torch.utils.data.DataLoader(data, batch_size=batch, num_workers=0, collate_fn=collate)
def batches():
    while True:
        yield from loader
it = batches()
def read(i):
    return next(it)["tokens"].numel(), None
"""
LOOP = """
import json
read(0)
tokens, i, began = 0, 0, time.perf_counter()
while time.perf_counter() - began < seconds:
    tokens += read(i)[0]
    i += 1
rate = tokens / (time.perf_counter() - began)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([rate, peak / 1024]))
"""
STUBS = {
    "__init__.py": "",
    "datasets/__init__.py": "class VisionDataset: ...\n",
    "transforms/__init__.py": "",
    "transforms/functional.py": "def to_tensor(image): ...\n",
}
WRITE_MDS = """
import sys, numpy as np, pyarrow as pa
from pathlib import Path
from streaming import MDSWriter
source, out = Path(sys.argv[1]), sys.argv[2]
with MDSWriter(out=out, columns={"tokens": "ndarray:int32:2048", "ends": "ndarray:int32"}) as writer:
    for path in sorted(source.glob("*.arrow")):
        for batch in pa.ipc.open_stream(pa.memory_map(str(path))):
            ends = batch.column("doc_ends")
            for i, row in enumerate(batch.column("input_ids").values.to_numpy().reshape(-1, 2048)):
                writer.write({"tokens": row, "ends": ends[i].values.to_numpy()})
"""


def mosaic_python(folder: Path, given: Path | None) -> Path:
    """A Python with mosaicml-streaming.

    Its image data sets import torchvision, whose wheels want a CUDA build of torch; blocks of tokens need neither, so
    empty modules stand in.
    """
    if given and (given / "bin" / "python").exists():
        return given / "bin" / "python"
    folder = given or folder
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "torch==2.13.0", "pyarrow", "mosaicml-streaming"], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "uninstall", "--quiet", "--yes", "torchvision"], check=True)
    stub = next((folder / "lib").glob("python*")) / "site-packages" / "torchvision"
    for name, code in STUBS.items():
        (stub / name).parent.mkdir(parents=True, exist_ok=True)
        (stub / name).write_text(code)
    return folder / "bin" / "python"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", default="256Mi")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--mosaic", type=Path)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="fox1-loader-"))
    try:
        write_set(root / "set", [LENGTH], quantity(options.tokens), ENDS, 256_000)
        python = mosaic_python(root / "venv", options.mosaic)
        subprocess.run([python, "-c", WRITE_MDS, root / "set" / str(LENGTH), root / "mds"], check=True)
        programs = {
            "fox1": (sys.executable, FOX1, root / "set"),
            "datasets": (sys.executable, DATASETS, root / "set"),
            "mosaic": (python, MOSAIC, root / "mds"),
        }
        found: dict[str, list[list[float]]] = {}
        for _ in range(options.pairs):
            for mode in ("in order", "shuffled", "in order, tokens only", "shuffled, tokens only"):
                for name, (interpreter, code, data) in programs.items():
                    if mode.endswith("only") and name != "datasets":
                        continue
                    command = [str(interpreter), "-c", code + LOOP, str(data), mode, str(options.seconds), str(BATCH)]
                    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
                    rate, peak = json.loads(done.stdout.strip().splitlines()[-1])
                    found.setdefault(f"{name} {mode}", []).append([rate, peak])
                    print(f"{name:9} {mode:22} {rate / 1e6:9.1f} million tokens/s, {peak:7.0f} MiB")
        medians = {key: np.median(np.array(values), axis=0).tolist() for key, values in found.items()}
        ratios = {
            f"ratio_{peer}_{mode.replace(' ', '_')}": round(
                medians[f"fox1 {mode}"][0] / medians[f"{peer} {mode}"][0], 1
            )
            for peer in ("datasets", "mosaic")
            for mode in ("in order", "shuffled")
        }
        rates = {f"tokens_per_s_{k.replace(', ', '_').replace(' ', '_')}": round(v[0]) for k, v in medians.items()}
        print(json.dumps({"ratio": min(ratios.values()), **ratios, **rates}))
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
