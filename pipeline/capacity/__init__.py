"""`fox1 plan`: what a curation and the training on it will take, from rates measured on a small sample.

small_copy.py   a small copy of the inputs, in their formats: the beginning of their files
rates.py        curates the copy and measures: CPU seconds, bytes and files by stage, warm and cold
estimate.py     rates times sizes: core-hours, wall time, disk, objects; FLOPs to GPU-hours; plan against actual
"""
