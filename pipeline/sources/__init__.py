"""Where text comes from: listing, decoding and naming the documents of the five corpora.

listing.py       which files a recipe's sources are, before any text is read
formats.py       bytes to rows: compressed JSON lines and Arrow tables, from any store
rows.py          rows of a file as Arrow batches: the one way every stage reads text
quarantine.py    rows that could not be read, with place and reason
domains.py       which domain a subset belongs to
adapter.py       what an adapter is; redpajama.py, slimpajama.py, dolma.py, pile.py, refinedweb.py: one per corpus;
                 huggingface.py, chat.py, datatrove.py: any other data

In: files as the corpora publish them. Out: Arrow batches of `TEXT_SCHEMA`, in row order, and a quarantine file that
names every row that could not be read. Nothing is skipped silently.
"""
