"""Notification mail by Exchange Web Services or SMTP. The only package that knows exchangelib and smtplib; it knows
nothing of Django.

`opening.open_mailer()` gives a `Mailer` (client.py); `errors` is all it raises.
"""
