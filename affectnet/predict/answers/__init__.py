"""Answers that any program gave for labelled photographs, matched with their labels and scored as our own. Needs no torch."""
