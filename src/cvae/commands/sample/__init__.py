"""`cvae sample`: what a trained model draws. `command` reads the arguments, `sources` opens, `drawing` draws."""
