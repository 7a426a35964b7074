"""One training run in plain torch: the networks, their optimizers and kernels."""
