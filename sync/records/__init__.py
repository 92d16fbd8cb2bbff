"""What device management and the directory say, into rows: Microsoft Graph, pushed records, CSV files."""
