"""Judges the paper's claims: one module per part of the paper, one function per claim."""
