"""What a run can say of itself: the counts that every stage leaves, put together; nothing is counted twice.

stage.py              stats/*.json from the stages' counts
outcomes.py           what became of documents, under the names that every view gives it; the funnel to trained tokens
concerns.py           what whoever answers for a run would ask about
ledger.py             the check that the counts balance
benchmark_items.py    which benchmark items stand in which documents
examples.py           a few documents of every reason
languages.py          documents and tokens by language
tokenizer_figures.py  how the tokenizer does on the run's own text
distributions.py      all documents by language, length and quality, and what became of them
findings.py           what stands out, in sentences, and the verdict
"""
