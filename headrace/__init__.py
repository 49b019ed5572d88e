"""The face of Headrace: command line, public names, reports for people."""
