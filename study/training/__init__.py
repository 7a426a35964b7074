"""One training run in plain torch: networks, optimizers, trainer, C kernels."""
