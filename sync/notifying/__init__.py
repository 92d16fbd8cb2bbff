"""The mail to people whose phone is kept out: its text, its queue, each once."""
