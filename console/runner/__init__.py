"""Runs everything on one machine: starts the processes, watches them, stops them. Only commands/up.py knows Django."""
