"""The local stack: speaks the wires of E2B and Supabase on loopback. Never deployed, imported by nobody."""
