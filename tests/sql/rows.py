"""Rows: a good one for each table, and for every constraint one that only this constraint refuses."""

from collections.abc import Mapping
from os import urandom
from typing import Any
from uuid import uuid4

from psycopg import sql
from psycopg.types.json import Jsonb

from tests.sql.conversations import AGENT, ENVIRONMENT
from tests.sql.people import Connection
from tests.sql.runs import HASH, OTHER_HASH, Run
from tests.sql.tasks import DIMENSIONS, ONE

Changes = Mapping[str, object]
NOBODY = uuid4()
# The id of the neighbours' session, of their attachment, and of one of them.
TAKEN = uuid4()
OTHER_TASK = uuid4()
LONG = "x" * 201
OF_TAKEN = {"session_id": TAKEN, "run_id": TAKEN}
EMBEDDED = {"embedding": ONE, "embedding_model": "x" * 200}
LARGE = Jsonb({"name": "x", "x": urandom(256 << 10).hex()})
ASKED = {"n": None, "type": "user.tool_confirmation"}
FROM_MEMORY = {
    "run_id": None, "status": "completed", "completed_at": "now", "similarity": 1, "source_age_seconds": 0,
    "answer": Jsonb({}),
}  # fmt: skip

# (constraint, table, what makes a good row bad)
BAD_ROWS: list[tuple[str, str, Changes]] = [
    ("agent_sessions_owner_fkey", "agent_sessions", {"owner": NOBODY}),
    ("agent_sessions_title_check", "agent_sessions", {"title": ""}),
    ("agent_sessions_title_check", "agent_sessions", {"title": LONG}),
    ("agent_sessions_status_check", "agent_sessions", {"status": "asleep"}),
    ("agent_sessions_last_seq_check", "agent_sessions", {"last_seq": -1}),
    ("agent_sessions_metadata_check", "agent_sessions", {"metadata": Jsonb([])}),
    ("agent_sessions_metadata_check", "agent_sessions", {"metadata": Jsonb({"x": "x" * 16384})}),
    ("agent_sessions_metadata_check", "agent_sessions", {"metadata": Jsonb({"x": 10**400})}),
    ("agent_sessions_agent_id_fkey", "agent_sessions", {"agent_id": "agent_nobody"}),
    ("agent_sessions_agent_check", "agent_sessions", {"agent": LARGE}),
    ("agent_sessions_environment_id_check", "agent_sessions", {"environment_id": ""}),
    ("agent_sessions_environment_check", "agent_sessions", {"environment": LARGE}),
    ("agent_sessions_resources_check", "agent_sessions", {"resources": LARGE}),
    ("agent_sessions_budget_microusd_check", "agent_sessions", {"budget_microusd": -1}),
    ("agent_sessions_cost_microusd_check", "agent_sessions", {"cost_microusd": -1}),
    ("agent_sessions_usage_check", "agent_sessions", {"usage": LARGE}),
    ("agent_sessions_message_seq_check", "agent_sessions", {"message_seq": -1}),
    ("agent_sessions_input_seq_check", "agent_sessions", {"input_seq": -1}),
    ("agent_sessions_taken_seq_check", "agent_sessions", {"taken_seq": -1}),
    ("agent_sessions_conversation", "agent_sessions", {"agent_id": None}),
    ("agent_sessions_conversation", "agent_sessions", {"agent": None}),
    ("agent_sessions_conversation", "agent_sessions", {"environment_id": None}),
    ("agent_sessions_conversation", "agent_sessions", {"environment": None}),
    ("agent_sessions_archived", "agent_sessions", {"archived_at": "now"}),
    ("api_keys_id_check", "api_keys", {"id": "key_1"}),
    ("api_keys_pkey", "api_keys", {"id": f"key_{'1' * 32}"}),
    ("api_keys_owner_fkey", "api_keys", {"owner": NOBODY}),
    ("api_keys_name_check", "api_keys", {"name": ""}),
    ("api_keys_prefix_check", "api_keys", {"prefix": "sst_"}),
    ("api_keys_hash_check", "api_keys", {"hash": b"short"}),
    ("api_keys_hash_key", "api_keys", {"hash": b"t" * 32}),
    ("api_keys_scopes_check", "api_keys", {"scopes": []}),
    ("api_keys_scopes_check", "api_keys", {"scopes": ["root"]}),
    ("api_keys_scopes_list", "api_keys", {"scopes": [["run"], ["read"]]}),
    ("api_keys_expires_at_readable", "api_keys", {"expires_at": "infinity"}),
    ("api_keys_lives_a_while", "api_keys", {"expires_at": "2020-01-01"}),
    ("agent_runs_session_id_fkey", "agent_runs", {"session_id": NOBODY}),
    ("agent_runs_owner_fkey", "agent_runs", {"owner": NOBODY}),
    ("agent_runs_kind_check", "agent_runs", {"kind": "mischief"}),
    ("agent_runs_status_check", "agent_runs", {"status": "done", "ended_at": "now"}),
    ("agent_runs_check", "agent_runs", {"status": "running", "ended_at": "now"}),
    ("agent_runs_check", "agent_runs", {"status": "succeeded", "ended_at": None}),
    ("agent_runs_epoch_check", "agent_runs", {"epoch": 0}),
    ("agent_runs_last_n_check", "agent_runs", {"last_n": -1}),
    ("agent_runs_input_check", "agent_runs", {"input": Jsonb("true")}),
    ("agent_runs_input_check", "agent_runs", {"input": Jsonb({"x": "x" * (16 << 20)})}),
    ("agent_runs_result_check", "agent_runs", {"result": Jsonb([1])}),
    ("agent_runs_result_check", "agent_runs", {"result": Jsonb({"x": 10**400})}),
    ("agent_runs_result_check", "agent_runs", {"result": Jsonb({"x": "x" * (256 << 10)})}),
    ("agent_runs_error_check", "agent_runs", {"error": Jsonb("refused")}),
    ("agent_runs_error_check", "agent_runs", {"error": Jsonb({"x": {"y": [-(10**400)]}})}),
    ("agent_runs_error_check", "agent_runs", {"error": Jsonb({"x": "x" * (256 << 10)})}),
    ("agent_runs_limit_seconds_check", "agent_runs", {"limit_seconds": 0}),
    ("agent_runs_limit_seconds_check", "agent_runs", {"limit_seconds": 604801}),
    ("agent_runs_one_live", "agent_runs", {"status": "running", "ended_at": None}),
    ("agent_events_session_id_fkey", "agent_events", {"session_id": NOBODY}),
    ("agent_events_pkey", "agent_events", {"seq": 1}),
    ("agent_events_seq_check", "agent_events", {"seq": 0}),
    ("agent_events_n_check", "agent_events", {"n": 0}),
    ("agent_events_check", "agent_events", {"n": 8, "run_id": None}),
    ("agent_events_once", "agent_events", {"n": 7, "seq": 101}),
    ("agent_events_type_check", "agent_events", {"type": "Command.output"}),
    ("agent_events_type_check", "agent_events", {"type": "command."}),
    ("agent_events_type_check", "agent_events", {"type": ".output"}),
    ("agent_events_type_check", "agent_events", {"type": "command output"}),
    ("agent_events_type_check", "agent_events", {"type": "1command"}),
    ("agent_events_type_check", "agent_events", {"type": "command\n"}),
    ("agent_events_type_check", "agent_events", {"type": "x" * 65}),
    ("agent_events_type_check", "agent_events", {"type": ""}),
    ("agent_events_data_check", "agent_events", {"data": Jsonb([1])}),
    ("agent_events_data_check", "agent_events", {"data": Jsonb(None)}),
    ("agent_events_data_check", "agent_events", {"data": Jsonb({"x": "x" * (256 << 10)})}),
    ("agent_events_not_said_by_a_runner", "agent_events", {"type": "user.message"}),
    ("agent_events_answered_once", "agent_events", {**ASKED, "data": Jsonb({"tool_use_id": "taken"})}),
    ("agent_events_answered_once", "agent_events", {**ASKED, "data": Jsonb({"custom_tool_use_id": "taken"})}),
    ("sandbox_executions_pkey", "sandbox_executions", {"sandbox_id": "taken"}),
    ("sandbox_executions_run_id_fkey", "sandbox_executions", {"run_id": NOBODY}),
    ("sandbox_executions_session_id_fkey", "sandbox_executions", {"session_id": NOBODY}),
    ("sandbox_executions_owner_fkey", "sandbox_executions", {"owner": NOBODY}),
    ("sandbox_executions_sandbox_id_check", "sandbox_executions", {"sandbox_id": ""}),
    ("sandbox_executions_sandbox_id_check", "sandbox_executions", {"sandbox_id": "x" * 129}),
    ("sandbox_executions_check", "sandbox_executions", {"ended_at": "now"}),
    ("sandbox_executions_check", "sandbox_executions", {"end_reason": "killed"}),
    ("idempotency_keys_pkey", "idempotency_keys", {"key": "taken"}),
    ("idempotency_keys_owner_fkey", "idempotency_keys", {"owner": NOBODY}),
    ("idempotency_keys_run_id_fkey", "idempotency_keys", {"run_id": NOBODY}),
    ("idempotency_keys_key_check", "idempotency_keys", {"key": ""}),
    ("idempotency_keys_key_check", "idempotency_keys", {"key": "x" * 256}),
    ("idempotency_keys_request_hash_check", "idempotency_keys", {"request_hash": "short"}),
    ("idempotency_keys_subject_check", "idempotency_keys", {"run_id": None, "subject": ""}),
    ("idempotency_keys_answer_check", "idempotency_keys", {"run_id": None, "subject": "x", "answer": Jsonb([])}),
    (
        "idempotency_keys_answer_check",
        "idempotency_keys",
        {"run_id": None, "subject": "x", "answer": Jsonb({"x": "x" * (1 << 20)})},
    ),
    ("idempotency_keys_one_claim", "idempotency_keys", {"run_id": None}),
    ("idempotency_keys_one_claim", "idempotency_keys", {"subject": "x"}),
    ("idempotency_keys_answer_of_subject", "idempotency_keys", {"answer": Jsonb({})}),
    ("agents_pkey", "agents", {"id": "taken"}),
    ("agents_id_check", "agents", {"id": ""}),
    ("agents_owner_fkey", "agents", {"owner": NOBODY}),
    ("agents_version_check", "agents", {"version": 0}),
    ("agents_config_check", "agents", {"config": Jsonb([])}),
    ("agents_config_check", "agents", {"config": Jsonb({})}),
    ("agents_config_check", "agents", {"config": Jsonb({"name": ""})}),
    ("agents_config_check", "agents", {"config": Jsonb({"name": "x" * 257})}),
    ("agents_config_check", "agents", {"config": Jsonb({"name": "x", "y": 10**400})}),
    ("agents_config_check", "agents", {"config": Jsonb({"name": "x", "y": "x" * (256 << 10)})}),
    ("agents_ready_made", "agents", {"owner": None}),
    ("agents_ready_made", "agents", {"id": "default"}),
    ("agent_versions_pkey", "agent_versions", {"version": 1}),
    ("agent_versions_agent_id_fkey", "agent_versions", {"agent_id": "agent_nobody"}),
    ("agent_versions_version_check", "agent_versions", {"version": 0}),
    ("agent_versions_owner_fkey", "agent_versions", {"owner": NOBODY}),
    ("agent_versions_config_check", "agent_versions", {"config": Jsonb({})}),
    ("environments_pkey", "environments", {"id": "taken"}),
    ("environments_id_check", "environments", {"id": "x" * 65}),
    ("environments_owner_fkey", "environments", {"owner": NOBODY}),
    ("environments_config_check", "environments", {"config": Jsonb({"description": "no name"})}),
    ("environments_ready_made", "environments", {"owner": None}),
    ("session_secrets_pkey", "session_secrets", {"session_id": TAKEN}),
    ("session_secrets_session_id_fkey", "session_secrets", {"session_id": NOBODY}),
    ("session_secrets_secrets_check", "session_secrets", {"secrets": Jsonb([])}),
    ("session_secrets_secrets_check", "session_secrets", {"secrets": LARGE}),
    ("session_attachments_pkey", "session_attachments", {"id": TAKEN}),
    ("session_attachments_session_id_fkey", "session_attachments", {"session_id": NOBODY}),
    ("session_attachments_media_type_check", "session_attachments", {"media_type": ""}),
    ("session_attachments_title_check", "session_attachments", {"title": "x" * 501}),
    ("session_attachments_data_check", "session_attachments", {"data": bytes((16 << 20) + 1)}),
    ("session_transcripts_pkey", "session_transcripts", {"n": 1}),
    ("session_transcripts_once", "session_transcripts", {"entry_id": "taken"}),
    ("session_transcripts_session_id_fkey", "session_transcripts", {"session_id": NOBODY}),
    ("session_transcripts_subpath_check", "session_transcripts", {"subpath": "x" * 513}),
    ("session_transcripts_n_check", "session_transcripts", {"n": 0}),
    ("session_transcripts_entry_id_check", "session_transcripts", {"entry_id": ""}),
    ("session_transcripts_bytes_check", "session_transcripts", {"bytes": (8 << 20) + 1}),
    ("session_transcripts_entry_check", "session_transcripts", {"entry": Jsonb("text")}),
    ("session_files_pkey", "session_files", {"session_id": TAKEN}),
    ("session_files_session_id_fkey", "session_files", {"session_id": NOBODY}),
    ("session_files_archive_check", "session_files", {"archive": bytes((9 << 20) + 1)}),
    ("session_files_files_check", "session_files", {"files": -1}),
    ("session_files_bytes_check", "session_files", {"bytes": -1}),
    ("account_limits_pkey", "account_limits", {"owner": TAKEN}),
    ("account_limits_owner_fkey", "account_limits", {"owner": NOBODY}),
    ("account_limits_max_concurrent_sandboxes_check", "account_limits", {"max_concurrent_sandboxes": -1}),
    ("account_limits_max_sandbox_duration_ms_check", "account_limits", {"max_sandbox_duration_ms": 59_999}),
    ("account_limits_submits_per_minute_check", "account_limits", {"submits_per_minute": 0}),
    ("account_limits_messages_per_minute_check", "account_limits", {"messages_per_minute": 0}),
    ("account_limits_others_per_minute_check", "account_limits", {"others_per_minute": 0}),
    ("account_limits_max_month_microusd_check", "account_limits", {"max_month_microusd": -1}),
    ("ledger_pkey", "ledger", {"id": -1}),
    ("ledger_owner_fkey", "ledger", {"owner": NOBODY}),
    ("ledger_entry_check", "ledger", {"entry": "refund", "kind": None}),
    ("ledger_kind_check", "ledger", {"kind": "storage"}),
    ("ledger_model_check", "ledger", {"model": "x" * 1025}),
    ("ledger_request_id_check", "ledger", {"request_id": "x" * 1025}),
    ("ledger_request_microusd_check", "ledger", {"request_microusd": -1}),
    ("ledger_quantity_check", "ledger", {"quantity": Jsonb([])}),
    ("ledger_amount_microusd_check", "ledger", {"amount_microusd": -1}),
    ("ledger_kind_of_spend", "ledger", {"kind": None}),
    ("ledger_run_of_promise", "ledger", {"entry": "settle", "kind": None, "run_id": None}),
    ("ledger_reserves_once", "ledger", {"entry": "reserve", "kind": None, "run_id": TAKEN}),
    ("ledger_settles_once", "ledger", {"entry": "settle", "kind": None, "run_id": TAKEN}),
    ("research_tasks_pkey", "research_tasks", {"id": TAKEN}),
    ("research_tasks_session_id_key", "research_tasks", {"session_id": TAKEN}),
    ("research_tasks_session_id_fkey", "research_tasks", {"session_id": NOBODY}),
    ("research_tasks_owner_fkey", "research_tasks", {"owner": NOBODY}),
    ("research_tasks_run_id_key", "research_tasks", {"run_id": TAKEN}),
    ("research_tasks_run_id_fkey", "research_tasks", {"run_id": NOBODY}),
    ("research_tasks_status_check", "research_tasks", {"status": "succeeded", "completed_at": "now"}),
    ("research_tasks_query_check", "research_tasks", {"query": ""}),
    ("research_tasks_query_check", "research_tasks", {"query": "x" * 8001}),
    ("research_tasks_query_check", "research_tasks", {"query": " \n"}),
    ("research_tasks_context_check", "research_tasks", {"context": Jsonb({})}),
    ("research_tasks_context_check", "research_tasks", {"context": Jsonb([1])}),
    ("research_tasks_context_check", "research_tasks", {"context": Jsonb(["x" * 65536])}),
    ("research_tasks_options_check", "research_tasks", {"options": Jsonb([])}),
    ("research_tasks_options_check", "research_tasks", {"options": Jsonb({"x": 10**400})}),
    ("research_tasks_options_check", "research_tasks", {"options": Jsonb({"x": "x" * 16384})}),
    ("research_tasks_question_hash_check", "research_tasks", {"question_hash": "g" * 64}),
    ("research_tasks_embedding_check", "research_tasks", {"embedding": str([0] * DIMENSIONS)}),
    ("research_tasks_embedding_model_check", "research_tasks", {"embedding_model": ""}),
    ("research_tasks_embedded", "research_tasks", {"embedding": None}),
    ("research_tasks_embedded", "research_tasks", {"embedding_model": None}),
    ("research_tasks_source_task_id_fkey", "research_tasks", {**FROM_MEMORY, "source_task_id": NOBODY}),
    ("research_tasks_source", "research_tasks", {"source_task_id": TAKEN}),
    ("research_tasks_similarity_check", "research_tasks", {**FROM_MEMORY, "similarity": 1.01}),
    ("research_tasks_source_age_seconds_check", "research_tasks", {**FROM_MEMORY, "source_age_seconds": -1}),
    ("research_tasks_answer_check", "research_tasks", {**FROM_MEMORY, "answer": Jsonb([])}),
    ("research_tasks_answer_check", "research_tasks", {**FROM_MEMORY, "answer": LARGE}),
    ("research_tasks_error_check", "research_tasks", {"error": Jsonb([])}),
    ("research_tasks_error_check", "research_tasks", {"error": LARGE}),
    ("research_tasks_end", "research_tasks", {"completed_at": "now"}),
    ("research_tasks_end", "research_tasks", {"status": "failed"}),
    ("research_tasks_answered", "research_tasks", {"answer": Jsonb({})}),
    ("research_tasks_remembered", "research_tasks", {"similarity": 1}),
    ("research_tasks_remembered", "research_tasks", {**FROM_MEMORY, "source_age_seconds": None}),
    ("research_tasks_remembered", "research_tasks", {**FROM_MEMORY, "answer": None}),
    ("research_tasks_one_live", "research_tasks", {"question_hash": OTHER_HASH}),
    ("task_results_pkey", "task_results", {"task_id": TAKEN}),
    ("task_results_task_id_fkey", "task_results", {"task_id": NOBODY}),
    ("task_results_owner_fkey", "task_results", {"owner": NOBODY}),
    ("task_results_answer_check", "task_results", {"answer": Jsonb([])}),
    ("task_results_answer_check", "task_results", {"answer": LARGE}),
    ("task_results_embedding_check", "task_results", {"embedding": str([0] * DIMENSIONS)}),
    ("task_results_embedding_model_check", "task_results", {"embedding_model": "x" * 201}),
    ("sandbox_executions_running_ms_check", "sandbox_executions", {"running_ms": -1}),
    ("sandbox_executions_cost_microusd_check", "sandbox_executions", {"cost_microusd": -1}),
    ("sandbox_executions_commands_check", "sandbox_executions", {"commands": -1}),
    ("run_moves_pkey", "run_moves", {"from_status": "running", "to_status": "lost"}),
    ("run_moves_made_by_check", "run_moves", {"made_by": []}),
    ("run_moves_made_by_check", "run_moves", {"made_by": ["passer-by"]}),
    ("run_repairs_pkey", "run_repairs", {"run_id": TAKEN}),
    ("run_repairs_run_id_fkey", "run_repairs", {"run_id": NOBODY}),
    ("run_repairs_restarts_check", "run_repairs", {"restarts": 4}),
    ("hook_deliveries_pkey", "hook_deliveries", {"id": "taken"}),
    ("hook_deliveries_id_check", "hook_deliveries", {"id": ""}),
    ("hook_deliveries_id_check", "hook_deliveries", {"id": "x" * 129}),
]
TABLES = (
    "agent_sessions", "agent_runs", "agent_events", "sandbox_executions", "idempotency_keys", "run_moves", "agents",
    "agent_versions", "environments", "session_secrets", "session_attachments", "session_transcripts", "session_files",
    "run_repairs", "hook_deliveries", "api_keys", "account_limits", "ledger", "research_tasks", "task_results",
)  # fmt: skip
NAMED = Jsonb({"name": "x" * 256})
CONVERSATION = {
    "agent_id": "default", "agent": Jsonb(AGENT), "environment_id": "default", "environment": Jsonb(ENVIRONMENT),
}  # fmt: skip
# Nothing but chance could break them: the ids are generated.
UNTESTED = {"agent_sessions_pkey", "agent_runs_pkey"}


def good_row(table: str, run: Run) -> dict[str, Any]:
    """A row that the table takes beside those of `neighbours`."""
    ended = {"status": "failed", "ended_at": "now"}
    of_session = {"session_id": run.session_id}
    of_run = {"run_id": run.id, **of_session}
    rows: dict[str, dict[str, Any]] = {
        "agent_sessions": {"owner": run.owner.id, "title": "x" * 200, "metadata": Jsonb({}), **CONVERSATION},
        "agent_runs": {
            "session_id": run.session_id, "owner": run.owner.id, "kind": "commands", "input": Jsonb({}),
            "limit_seconds": 604800, "deadline_at": "now", **ended,
        },
        "agent_events": {**of_run, "seq": 100, "n": 8, "type": "a1_b.c_2.d", "data": Jsonb({})},
        "sandbox_executions": {**of_run, "owner": run.owner.id, "sandbox_id": "x" * 128, "template": "base"},
        "idempotency_keys": {"owner": run.owner.id, "key": "x" * 255, "request_hash": HASH, "run_id": run.id},
        "run_moves": {"from_status": "a", "to_status": "b", "made_by": ["sweep"]},
        "agents": {"id": "x" * 64, "owner": run.owner.id, "config": NAMED},
        "agent_versions": {"agent_id": "taken", "version": 2, "owner": run.owner.id, "config": NAMED},
        "environments": {"id": "x" * 64, "owner": run.owner.id, "config": NAMED},
        "session_secrets": {**of_session, "secrets": Jsonb({})},
        "session_attachments": {**of_session, "id": run.id, "media_type": "x" * 128, "data": b""},
        "session_transcripts": {**of_session, "subpath": "", "n": 2, "bytes": 2, "entry": Jsonb({})},
        "session_files": {**of_session, "archive": b"", "files": 0, "bytes": 0},
        "run_repairs": {"run_id": run.id, "restarts": 3},
        "hook_deliveries": {"id": "x" * 128},
        "api_keys": {
            "id": f"key_{'0' * 32}", "owner": run.owner.id, "name": "x" * 200, "prefix": f"sst_{'x' * 8}",
            "hash": b"x" * 32, "scopes": ["run", "read", "admin"],
        },
        "account_limits": {"owner": run.owner.id, "max_concurrent_sandboxes": 100_000},
        "ledger": {"owner": run.owner.id, "run_id": run.id, "entry": "spend", "kind": "model", "amount_microusd": 1},
        "research_tasks": {
            **of_run, "owner": run.owner.id, "status": "running", "query": "x" * 8000, "context": Jsonb(["x"]),
            "question_hash": HASH, "is_shared": True, **EMBEDDED,
        },
        "task_results": {"task_id": OTHER_TASK, "owner": run.owner.id, "answer": Jsonb({}), **EMBEDDED},
    }  # fmt: skip
    return rows[table]


def neighbours(admin: Connection, run: Run) -> None:
    """Rows that a second one must not repeat."""
    insert(admin, "agent_events", {**good_row("agent_events", run), "seq": 99, "n": 7})
    insert(admin, "sandbox_executions", {**good_row("sandbox_executions", run), "sandbox_id": "taken"})
    insert(admin, "idempotency_keys", {**good_row("idempotency_keys", run), "key": "taken"})
    answer = {**good_row("agent_events", run), **ASKED, "seq": 98, "data": Jsonb({"tool_use_id": "taken"})}
    insert(admin, "agent_events", answer)
    insert(admin, "agents", {**good_row("agents", run), "id": "taken"})
    insert(admin, "agent_versions", {**good_row("agent_versions", run), "version": 1})
    insert(admin, "environments", {**good_row("environments", run), "id": "taken"})
    insert(admin, "agent_sessions", {**good_row("agent_sessions", run), "id": TAKEN})
    insert(admin, "session_attachments", {**good_row("session_attachments", run), "id": TAKEN})
    entry = {**good_row("session_transcripts", run), "n": 1, "entry_id": "taken"}
    insert(admin, "session_transcripts", entry)
    insert(admin, "agent_runs", {**good_row("agent_runs", run), "id": TAKEN})
    insert(admin, "run_repairs", {"run_id": TAKEN})
    insert(admin, "hook_deliveries", {"id": "taken"})
    insert(admin, "api_keys", {**good_row("api_keys", run), "id": f"key_{'1' * 32}", "hash": b"t" * 32})
    # A neighbour who is a user: one may have been committed by another test.
    admin.execute("delete from auth.users where id = %s", (TAKEN,))
    admin.execute("insert into auth.users (id, role) values (%s, 'authenticated')", (TAKEN,))
    insert(admin, "account_limits", {**good_row("account_limits", run), "owner": TAKEN})
    insert(admin, "ledger", {**good_row("ledger", run), "id": -1})
    for entry_of_run in ("reserve", "settle"):
        insert(admin, "ledger", {**good_row("ledger", run), "run_id": TAKEN, "entry": entry_of_run, "kind": None})
    task = good_row("research_tasks", run)
    insert(admin, "research_tasks", {**task, "id": TAKEN, **OF_TAKEN, "question_hash": OTHER_HASH})
    insert(admin, "task_results", {**good_row("task_results", run), "task_id": TAKEN})
    session = {**good_row("agent_sessions", run), "id": OTHER_TASK}
    insert(admin, "agent_sessions", session)
    insert(admin, "research_tasks", {**task, **FROM_MEMORY, "id": OTHER_TASK, "session_id": OTHER_TASK})
    for table in ("session_secrets", "session_files"):
        insert(admin, table, {**good_row(table, run), "session_id": TAKEN})


def insert(admin: Connection, table: str, row: Changes) -> None:
    """The row, with deferred constraints checked at once."""
    statement = sql.SQL("insert into public.{} ({}) values ({})").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, row)),
        sql.SQL(", ").join(sql.Placeholder() * len(row)),
    )
    admin.execute("set constraints all immediate")
    admin.execute(statement, list(row.values()))
