"""Whether a fit can be believed: rules over plain values, rival indexings, halves of the spots, usual mistakes."""
