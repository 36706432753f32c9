"""Row lineage inside: facts of the catalog, the resolved query, its annotation, and the pushing down of a key.

``lineage.rows`` is the door; nothing here is called from elsewhere.
"""
