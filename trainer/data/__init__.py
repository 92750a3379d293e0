"""The data of a training, in an order that depends on nothing but the unit's number.

In: a phase set of a run (Arrow files of packed blocks), and the number of units consumed so far.
Out: the micro-batches of a rank, step by step, on its device. Whatever the number of ranks, a step takes the same units.

    order.py          a phase as a sequence of units; micro-batches; the loader that makes them a step ahead
    mixture.py        several sets as one sequence of units, in given shares: a mixture that is written nowhere
    block_reader.py   random access to the blocks of a set, memory-mapped and checked
    permutation.py    the order of further epochs: a pseudo-random permutation, computed for any index
    source_losses.py  losses summed by corpus and by domain
"""
