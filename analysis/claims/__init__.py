"""Judges the paper's claims: one module per part of its text, one function per claim."""
