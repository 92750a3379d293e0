"""Where text comes from: listing, decoding and naming the documents of the five corpora.

In: files as the corpora publish them. Out: Arrow batches of `TEXT_SCHEMA`, in row order, and a quarantine file that
names every row that could not be read. Nothing is skipped silently.
"""
