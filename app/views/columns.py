"""Lineage: what does this column depend on, and who depends on it?"""
