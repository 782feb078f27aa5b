"""Blind A/B tests with people: what they are shown, what they said, and what that says."""
