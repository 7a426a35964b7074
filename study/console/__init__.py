"""Text, errors and signals: what a person reads and how they stop a command."""
