"""Benchmarks against the paper's training loop. Each of these modules is a command; see --help.

training          one training run: samples per second, ratios, shares of the hardware's peak
equivalence       checks that the fast code learns the same as plain torch
study             trials per hour through Ray, and the overhead per trial
time_to_accuracy  seconds until the paper's accuracy is reached
scale             the cost of the driver in studies of many trials
"""
