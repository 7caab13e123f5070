"""Ours and the peers side by side: the same splits, the same vectors, the same measures (`make benchmark-peers`).

``problem`` makes the splits, ``peers`` says who takes part, ``work`` hands a problem to a peer's script in that peer's
own environment (``environments``), ``words`` has what needs no training, ``measure`` and ``runner`` write one line of
results after the other, ``report`` makes the tables and figures of them.
"""
