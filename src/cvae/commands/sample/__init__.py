"""`cvae sample`: draw pictures. `command` has the options, `sources` opens models and images, `drawing` draws."""
