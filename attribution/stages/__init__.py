"""The cascade of one verification: what is found stage by stage (evidence, copies, candidates) and the verdict."""
