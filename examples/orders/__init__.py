"""A web shop: orders that are charged once, and sign-ups that fan out."""
