"""The report: run directories -> configurations, what can be said of their differences, pictures and a page."""
