"""Training: the step, what repeats it, measures it, writes it to a file, and finds where it diverged."""
