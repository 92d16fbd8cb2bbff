"""The REST API for programs. JSON in and out, a token of one tenant for each request, one shape of error.

v1 keeps its names and meanings; what would break a caller becomes v2.
"""
