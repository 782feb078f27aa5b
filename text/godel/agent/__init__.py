"""What the agent is made of before it has changed anything: a policy and an improver.

Both files are read as text, and run inside the sandbox only. Nothing here is fixed.
"""
