"""The Fox-1 network.

In: a flat stream of T token ids, where its documents begin and end, and the targets.
Out: the summed loss, with its gradients; or logits, for generation and tests.

    model.py      the decoder (`Fox1`), and the FLOPs that a token costs
    attention.py  causal attention within documents: FlashAttention on CUDA, SDPA per document on the CPU
    float8.py     matrix products from 8-bit operands, an experiment
    loss.py       linear cross-entropy in chunks, which never holds all logits
"""
