"""Explained search for a design: a walk of single changes on one device."""
