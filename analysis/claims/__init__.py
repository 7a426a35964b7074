"""The paper's claims, judged: a module for each part of its text, a function for each claim."""
