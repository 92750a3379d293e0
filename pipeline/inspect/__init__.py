"""Looking at a finished run: nothing here writes to it, and no stage imports it.

run.py          a run opened by its manifest: its phases, documents and their text
provenance.py   `fox1 why` and `fox1 trace`: a document's fate, and a block's sources
lookup.py       `fox1 find`: documents by URL, native id, content hash or text
what_if.py      `fox1 filter --what-if`: what another threshold would change; what_if_dedupe.py: other settings of dedupe;
                what_if_mixture.py: other weights and budgets of the phases
diff.py         `fox1 diff`: which documents have another outcome in another run
documents.py    the documents as one table, with documented columns
sql.py          conditions and queries over it, by DuckDB, which can reach nothing else
dump.py         `fox1 dump`: the curated or dropped documents as Parquet
dump_tokens.py  `fox1 dump --tokens`: token ids in the files of other trainers
"""
