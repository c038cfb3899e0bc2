"""Many runs from files: reproducing a table of the paper, guarding a model's scores."""
