"""What people choose: policies and their versions, previews, mailbox policies, overrides and links."""
