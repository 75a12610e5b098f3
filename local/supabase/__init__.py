"""Supabase on loopback: REST, Auth and Realtime, over the Postgres beside it."""
