"""Value types, budgets and small tools that know neither models nor media."""
