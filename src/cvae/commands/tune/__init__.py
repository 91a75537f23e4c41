"""`cvae tune`: search for parameters. Optuna proposes them, DVC runs each trial as an experiment, MLflow records it.

In the order of reading: command.py (what a person types), space.py (what is searched), search.py (the loop), study.py
(the file that remembers it all), copies.py and trials.py (a trial's copy of the repository, and its process), curves.py
(the live curve, by which trials are pruned), report.py and pictures.py (what a person sees).
"""
