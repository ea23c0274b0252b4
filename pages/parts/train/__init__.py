"""The Train page in parts: the form, the run that is followed, what is done with it, and the comparison."""
