"""Match, decide, plan, guard: from facts to verdicts, commands, and what must wait.

Pure: nothing in here reads a database, clock, setting or network.
"""
