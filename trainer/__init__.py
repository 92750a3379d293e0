"""The embedded trainer: Fox-1 on one process or many, phase by phase, from the shard sets of a run.

A training begins in `train.py`, one process of it; `launch.py` starts several on this machine, `launch_ray.py` on a Ray
cluster. It opens the phases (`data/`), shards the model (`model/`, `parallel.py`) with what moves it (`muon.py`) to fit the
memory that there is (`memory.py`), resumes (`resume.py`, `checkpoints/`) with the settings of the call (`overrides.py`), and runs
the loop (`loop.py`) at the rate of `schedule.py` until its end or until it is asked to stop (`stopping.py`), skipping broken steps
and comparing ranks (`checks/`), reporting as it goes (`watch/`). What it will do is said beforehand by `plan.py`, and what is
trained is scored and sampled from in `evaluate/`.

`train.py` and all it imports need torch, numpy and pyarrow only. Settings (`settings.py`) come as JSON, from the run's
`training.json` or a checkpoint's manifest. Nothing here knows recipes, the pipeline or the command line.
"""
