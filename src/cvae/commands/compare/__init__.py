"""`cvae compare`: DVC's experiments side by side, as tables and one picture."""
