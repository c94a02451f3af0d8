"""Measurements that a person can repeat: ``python -m forwardinf_core bench …``."""
