"""Tiny random models written in real Hub layout: one module per task, one function per class."""
