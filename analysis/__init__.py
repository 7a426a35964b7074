"""Reads a study's tables, draws figures from them and writes the report page.

Importing a module here loads neither torch, ray nor optuna, so results can be read on any machine.
"""
