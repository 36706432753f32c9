"""Is a home whole? Every check of ``scoretrace doctor``; nothing here changes anything."""
