"""The embedded trainer: Fox-1 on one process or many, phase by phase, from the shard sets a run leaves.

`train.py` and all it imports need torch, numpy and pyarrow only; settings come as JSON from the run or the checkpoint.
"""
