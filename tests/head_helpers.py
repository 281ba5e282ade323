"""Short calls of fitted heads."""


def probabilities(head, rows):
    """Return the probabilities of a fitted head for rows."""
    return head.suffix.objective.link(head.scores(rows))
