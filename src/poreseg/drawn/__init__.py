"""The demo study: specimens drawn by a rule, with labels that are exact by construction."""
