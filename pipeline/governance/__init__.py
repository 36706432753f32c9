"""Who may do what, who they are, and what is on record about it."""
