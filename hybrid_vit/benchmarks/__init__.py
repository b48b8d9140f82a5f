"""Benchmarks: suites of cases that take turns, each in a process of its own -> tables of medians, spreads and ratios.

timing.py   processes that take turns
turns.py    each turn as it is measured, on stderr and in a file
table.py    what a suite measured, as text
plots.py    the same, drawn
work.py     the training step, and what the suites share
peers.py    what others run
step.py infer.py export.py input.py loop.py growth.py startup.py zoo.py   a suite each
"""
