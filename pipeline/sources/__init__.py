"""Where text comes from: listing, decoding and naming the documents of the five corpora.

listing.py       which files a recipe's sources are, before any text is read
formats.py       bytes to lines: JSON lines, compressed or not, from any store
tables.py        Parquet and Arrow files to record batches; arrow_messages.py: what an Arrow file says before it is unpacked
rows.py          rows of a file as Arrow batches: the one way every stage reads text; some_rows.py: which of them;
                 source_row.py: one row as it stands in its file
quarantine.py    rows that could not be read, with place and reason
domains.py       which domain a subset belongs to
patterns.py      files that a recipe names other than shards of a source
adapter.py       what an adapter is; redpajama.py, slimpajama.py, dolma.py, pile.py, refinedweb.py: one per corpus;
                 huggingface.py, chat.py, datatrove.py: any other data
token_files.py   documents that come as token ids, which have no text

In: files as the corpora publish them. Out: Arrow batches of `TEXT_SCHEMA`, in row order, and a quarantine file that
names the rows that could not be read, and says how many they are. Nothing is skipped silently.
"""
