"""Research: a question becomes a checked plan of commands, which are run, and an answer with its evidence.

drive      the way of a run: plan, check, execute, once more if need be, answer
planner    the model: asked until it says something usable, over `models`, in words from `prompts`
plan       its plans, and `answer` its answers: parsed, and held against what is so
journal    what the log is told, over `progress`, where the run stands
check      whether a command is safe to run, with all that stands beside it here
"""

from .drive import drive

__all__ = ["drive"]
