"""What a training reports, and how it is looked at.

In: the values of a step or an evaluation, on rank 0 and on the CPU.
Out: metrics.jsonl and train.log beside the checkpoints, TensorBoard and W&B where they are wanted, a line on the terminal;
drawings and traces. Keys of metrics.jsonl and the `step N/M` of the log are a format that others read.

    window.py   sums over the steps since the last report
    metrics.py  JSON lines, the log, TensorBoard, W&B; the peak FLOP/s of known devices
    live.py     the state of a training as one line of a terminal

    profile.py  a trace of some steps
    curves.py   losses and throughput of trainings as one drawing
"""
