"""What a person reads, and how they stop a command."""
