-- Hosted Supabase lets `postgres` create these itself; here only a superuser can, so they are there from the start.
create extension if not exists vector with schema extensions;
