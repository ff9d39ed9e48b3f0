"""The fit: a beamline's geometry refined by fitting simulated pixels to frames."""
