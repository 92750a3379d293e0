"""Signals: per-document facts, computed in one pass over Arrow string buffers by Numba kernels.

stage.py            plans a task per group of source files; returns the tables with their counts
scan.py             a task: source files in, one row of facts per document out
segment.py          words, lines and paragraphs, cut once for all kernels; unicode.py: character classes
gopher.py, c4.py, fineweb.py, code.py    the rules of the papers, as counts
language.py, quality.py                  language with confidence; the learned quality score
scores.py, fasttext.py                   scores of others; fastText classifiers
unpacked.py         tables of packages, unpacked once for a machine
minhash.py, hashing.py, nfc.py           band signature, sketch; the form in which texts are compared
blake3.py, collapse.py, content.py       hashes of texts and of their contents; how a content hash is written
pii.py, matchers.py, emails.py, cards.py personal data and secrets; domain_names.py: the top-level domains
marked.py                                words that signals look for
contamination.py, item_grams.py, numerals.py    benchmark n-grams, in which all numbers are one word
urls.py, url_entries.py, url_parts.py    block lists, what an entry may be; the host and the normal form of a URL
hosts.py                                 hosts in one form, and which lie below which
counts.py, ratios.py                     which counts are stored; the ratios that filters form from them
plugins.py, plugin_files.py              filters of other makers, one Python call per document; those named by file

Every kernel takes a batch (UTF-8 bytes and int64 offsets) and returns columns; no Python object per document. Stored
facts are integers: ratios are formed from them by the filters, so no byte of the output depends on rounding.
"""
