"""Mix: from token budgets to packed, shuffled blocks in three curriculum phases.

budget.py   a phase's budget over its pools: integers that sum exactly; what a pool can give
plan.py     budgets to claims of every phase; feasibility.py: what is short, and the nearest weights that would do
stage.py    the stage, from plan to phase sets
select.py   which documents each phase claims, from histograms in bounded memory
assign.py   claimed documents to pack partitions, through the file shuffle
blocks.py   partitions to blocks, blocks to files in their global order
held_out.py the held-out documents, in file order
index.py    which blocks a document went to; lookup_index.py: which documents have a URL, a native id or a content hash
ledger.py   what was reached beside what was wanted
"""

VERSION = 4
