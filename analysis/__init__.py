"""Analysis of a study's tables: frames to compute, figures to draw, a report to read.

Nothing here imports torch, ray or optuna: results can be read on any machine.
"""
