"""Configurations: hyperparameters, data sets, trials, searches, comparisons."""
