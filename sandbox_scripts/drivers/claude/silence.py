"""Lines and blocks of the Claude CLI that make no event, each with the reason. What is not here is never left out."""

from __future__ import annotations

# By type, or type/subtype where the type is `system`.
SILENT = {
    "control_request": "the driver answers it",
    "control_response": "the driver asked for it",
    "control_cancel_request": "the driver takes its question back",
    "transcript_mirror": "the transcript's store takes it",
    "keep_alive": "says nothing",
    "tool_progress": "a clock; the result follows",
    "tool_use_summary": "a model's summary of what the log has",
    "rate_limit_event": "the account's allowance; a refusal comes as a retry or an error",
    "auth_status": "of signing in, which does not happen here",
    "prompt_suggestion": "for an input line that is not here",
    "active_goal": "for a status line that is not here",
    "conversation_reset": "the command's own output says it",
    "command_lifecycle": "the CLI's own queue of prompts; the log has the messages",
    "system/ui_invalidate": "for a screen that is not here",
    "system/status": "requesting and compacting: spans and the boundary say it",
    "system/thinking_tokens": "an estimate; the usage follows",
    "system/task_started": "the tool use says it",
    "system/task_progress": "the sub-agent's own events say it",
    "system/task_updated": "the tool's result says it",
    "system/task_notification": "the tool's result says it",
    "system/background_tasks_changed": "the tools' results say it",
    "system/hook_started": "hooks are not in use",
    "system/hook_progress": "hooks are not in use",
    "system/hook_response": "hooks are not in use",
    "system/mirror_error": "made by the SDK itself",
    "system/session_state_changed": "the driver knows the state",
    "system/session_writes_lost": "the transcript is kept elsewhere",
    "system/permission_denied": "the tool's result says it",
    "system/control_request_progress": "of a request of the driver",
    "system/model_refusal_fallback": "another model went on; its messages follow",
    "system/informational": "the CLI's words to its own screen",
    "system/notification": "the CLI's words to its own screen",
    "system/commands_changed": "for a menu that is not here",
    "system/plugin_install": "plugins are not in use",
    "system/files_persisted": "of a service that is not in use",
    "system/memory_recall": "part of the prompt",
    "system/elicitation_complete": "of a question that the driver answered",
    "system/worker_shutting_down": "the end follows",
}

# In lines of type `user`: the tools' results make events, these do not.
SILENT_USER_BLOCKS = {
    "text": "what was sent, a sub-agent's prompt, or the CLI's word to the model",
    "image": "what was sent",
    "document": "what was sent",
    "search_result": "what was sent",
    "tool_reference": "part of the prompt",
}

# In the model's messages.
SILENT_BLOCKS = {
    "fallback": "another model goes on in the same message",
    "mcp_tool_listing": "the tools of a server, for the model",
}
