"""What datatrove's steps count, by datatrove's own definitions, as Numba kernels over the text of many documents.

batch.py        the text and the words of a batch
characters.py   the classes of characters that datatrove's definitions name
quality.py      counts of the Gopher quality filter        repetition.py   the Gopher repetition filter
lines.py        counts of the FineWeb quality filter       c4.py           lines that C4 keeps, as a new text
words_of_urls.py   words and subwords of the URL filter    spans.py        where an address may stand

The definitions differ from those of `pipeline/signals`: what a line is, whether a blank one counts, which characters are
punctuation. So these kernels are of their own: a filter here must decide as datatrove's does, whatever fox1's recipes count.
"""
