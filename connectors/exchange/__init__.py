"""Exchange over remote PowerShell. The only package that knows pypsrp; it knows nothing of Django.

`session.connect()` opens a session and gives an `ExchangeClient` (client.py); `records` are what it reads, `errors` is
all it raises.
"""
