"""Champion against challenger: what each would have said of the same holdout, kept with the training run."""
