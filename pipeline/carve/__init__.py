"""Documents that are set apart to measure on (`held_out.carve`), half of them whatever the filters say of them.

settings.py  how many
choose.py    which: samples of every domain in bounded memory, and their mark in what the filters say
stage.py     the steps between filter and dedupe
encode.py    their tokens

They are chosen before dedupe, which treats them as it treats held-out documents: they come first in its order, so whatever is a
copy of one goes, and no cluster of theirs is trained on. Their decision is `carved`, and they are not kept.
"""

VERSION = 1
