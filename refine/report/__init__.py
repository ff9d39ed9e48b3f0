"""What a person reads: result.json, tables, report.html, check.html. Knows records alone."""
