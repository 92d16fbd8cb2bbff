"""Microsoft Graph: device records, people and groups of a tenant, read and never written.

The only place that imports httpx. Knows no Django. `source.py` is what the rest of the product depends on.
"""
