"""`python -m tests.browser.shots [FOLDER]`: pictures of every page, by day and by night, wide and narrow.

They are of the demo's morning: invented people, so the pictures may be shown to anybody.
"""
