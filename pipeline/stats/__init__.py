"""What a run can say of itself: counts that every stage leaves, put together; nothing is counted twice.

ledger.py   stats/*.json from the stages' counts, and the check that they balance
tables.py   the same as tables for a terminal
"""
