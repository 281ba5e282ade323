"""Heads in tests."""


def probabilities(head, rows):
    """The probabilities that a fitted head gives rows."""
    return head.suffix.objective.link(head.scores(rows))
