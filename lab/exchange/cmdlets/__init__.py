"""The cmdlets of Exchange's endpoint, by area. `registry.CMDLETS` knows them all once this package is imported."""

from lab.exchange.cmdlets import devices, mailboxes, organization, policies, rules, session, statistics

__all__ = ["devices", "mailboxes", "organization", "policies", "rules", "session", "statistics"]
