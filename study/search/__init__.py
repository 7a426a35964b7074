"""One session of a study: Optuna proposes the trials, Ray Tune runs them."""
