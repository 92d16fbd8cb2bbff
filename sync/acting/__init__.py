"""Telling Exchange: intent before, cmdlet, reading back, outcome after; single mailboxes at once; acts of people."""
