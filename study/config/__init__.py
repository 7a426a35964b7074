"""What is asked for: hyperparameters, trials, studies of each kind, the built-in comparisons."""
