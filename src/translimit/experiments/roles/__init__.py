"""Roles of parameters beyond the dense block, measured against the table of rules."""
