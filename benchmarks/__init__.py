"""Speed, measured side by side with the paper's loop. Each module is a command; see --help.

training          one training run: samples per second, ratios, shares of the hardware's peak
equivalence       what must hold before a speed counts: the same function, the same learning
study             trials per hour through Ray, and what a trial costs beyond its training
time_to_accuracy  seconds until the paper's accuracy is reached
"""
