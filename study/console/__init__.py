"""The terminal: output, error messages, safe text, Ctrl-C."""
