"""What Exchange says, into rows: devices, mailboxes, settings, rules, mailbox policies, statistics."""
