"""Speed, measured side by side with the report's loop. Each module is a command; see --help.

training          one training run: samples a second, ratios, shares of the hardware's peak
equivalence       what must hold before a speed counts: the same function, the same learning
study             trials an hour through Ray, and what a trial costs beyond its training
time_to_accuracy  seconds until the report's accuracy is reached
"""
