"""One session of a study: Optuna proposes, Ray Tune runs."""
