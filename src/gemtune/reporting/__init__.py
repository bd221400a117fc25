"""Run directory -> report.html, report.md and the terminal; needs no torch."""
