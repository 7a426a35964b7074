"""Analyses a study's tables: computes frames, draws figures and writes a page.

Importing a module loads neither torch, ray nor optuna, so any machine can read results.
"""
