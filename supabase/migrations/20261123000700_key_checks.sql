-- What the endpoints cannot read is refused where it is written: users may call create_key_v1 by themselves.

alter table public.api_keys
  add constraint api_keys_scopes_list check (array_ndims(scopes) = 1),
  add constraint api_keys_expires_at_readable check (expires_at < '9999-01-01');
