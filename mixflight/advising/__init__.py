"""Explained search for a design: a walk of single changes on one device.

From a start that fits the device, each step names what binds, tries every single change, keeps the best and says why;
the whole scenario is then simulated again. Resources are counted by closed forms of our own synthesis, so a design that
does not fit is never proposed.
"""
