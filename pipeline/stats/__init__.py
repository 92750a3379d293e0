"""What a run can say of itself: counts that every stage leaves, put together; nothing is counted twice.

stage.py          stats/*.json from the stages' counts
ledger.py         the check that they balance
contamination.py, examples.py, languages.py, mixture.py, tokenizer.py    their parts
tables.py         the same as tables for a terminal; report/: as a page
"""
