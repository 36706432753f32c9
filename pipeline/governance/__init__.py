"""Who may do what, who they are, what they decided about models, and the record of it."""
