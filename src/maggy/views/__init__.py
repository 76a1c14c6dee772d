"""What people see: folds over the event log, live or finished."""
