"""What one sees at the end: terminal table, figures, pages, the comparison over many runs.

It reads *records* (``outputs/runs/<name>/result.json``) and the sample files they name, nothing
else. ``results`` makes one tidy table of them; every view is a group-by of it and a template.
"""
