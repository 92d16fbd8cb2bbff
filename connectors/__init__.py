"""How the outside is reached: connectors and their settings, and one package for each remote system."""
