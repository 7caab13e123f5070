"""Time, memory and lift against size, on data whose right answer is known: `python -m benchmarks.scale`.

Read `planted` (the data), `cell` (one size, measured in a process of its own), `runner` (all of them, resumed where a
run was cut short) and `report` (the table, the exponents and the pictures).
"""
