"""A whole Exchange organisation, Graph tenant and phones on loopback: for trying, testing and measuring.

Imports nothing of the product and shares no code with it; they meet on the wire alone. What it proves is agreement with
pypsrp and with the facts collected about Exchange, not with a real Exchange.
"""
