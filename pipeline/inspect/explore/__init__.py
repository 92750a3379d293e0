"""Histograms of a run that follow a selection: what the page of `fox1 inspect` shows of millions of documents at once.

scales.py      where the bins of each signal lie
codes.py       every document as a byte for each signal and category, read in the background
count.py       the kernels: which documents a selection takes, and how many of them lie in each bin
selection.py   what is selected, as the page sends it
explorer.py    from a selection to counts, rows and files

With bytes in memory, ten million documents and eighty signals are counted in a tenth of a second and take 0.8 GB; grouped from
Parquet by DuckDB, one signal takes longer than all of them.
"""
