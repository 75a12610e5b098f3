"""A conversation with Claude Code: the user's messages in, what it says and does out, until nobody has more to say.

    desk          what is there before the CLI: files, repositories, transcript, the user's messages
    conversation  one start of the CLI, held through the Agent SDK, from the first prompt to the last result
    departure     its end: stdin closed, the process gone, the transcript and the files kept
    events        the CLI's lines as events of the log, with messages, blocks, tools and errors: pure
    previews      live text

The CLI outlives the runner, see stdin.py and transport.py. A run starts it once, and again only when a message came in
while it was on its way out, or when an interrupt had to stop it and a message waits.
"""

from .desk import drive

__all__ = ["drive"]
