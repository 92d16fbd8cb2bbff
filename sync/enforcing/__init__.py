"""A run's second half: loads facts from rows, has them decided, keeps verdicts and drift, asks the guard and people."""
