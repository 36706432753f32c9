"""The validation report of one version: one HTML page made from the records and from nothing else."""
