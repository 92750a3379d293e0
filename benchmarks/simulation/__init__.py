"""Parts of `benchmarks/simulate.py`: published sizes, made-up results of tasks, and what stands for a cluster and a store."""
