-- A model's name without its date and its context window, as the price list has it. Anthropic writes a date as -20260922,
-- OpenAI as -2026-09-22.
create or replace function private.listed_name(model text) returns text
  language sql immutable parallel safe
  return regexp_replace(model, '(-[0-9]{4}-?[0-9]{2}-?[0-9]{2}|-latest)?(\[1m\])?$', '');
