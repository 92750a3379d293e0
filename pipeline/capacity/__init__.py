"""`fox1 plan`: what a curation and the training on it will take, from rates measured on a small sample.

sample.py   a small copy of the inputs, in their formats: the beginning of their files
rates.py    curates the sample and measures: CPU seconds, bytes and files by stage, warm and cold
plan.py     rates times sizes: core-hours, wall time, disk, objects; FLOPs to GPU-hours; plan against actual
tables.py   what a person sees
"""
