"""Calls to servers of others over HTTP: who we are, one request, one bounded answer, what it says where."""
