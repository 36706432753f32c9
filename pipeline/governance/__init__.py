"""What is decided about models, and the record of it: audit log, signatures, checkpoints."""
