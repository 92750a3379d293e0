"""What is checked while a training runs.

In: the sharded model, the loss and gradient norm of a step, the held-out set of the run.
Out: a flag on the device that skips a step; an error that names the rank whose weights differ; the held-out loss.

    stability.py      skips steps whose loss or gradient norm is not finite or a spike
    sanity.py         compares the weights of all ranks before a checkpoint
    device.py         compares a few layers with plain ones over a dense mask: whether a device computes what it should
    held_out_loss.py  nats per token and bits per byte on documents that were never trained on
"""
