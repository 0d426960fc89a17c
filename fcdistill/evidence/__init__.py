"""Traces judged by several witnesses, a trained one among them: above the three stages, whose files it reads."""
