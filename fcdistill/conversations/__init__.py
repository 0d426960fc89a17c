"""Conversations recorded elsewhere, read as turns and steps: below the stages that make traces and cases of them."""
