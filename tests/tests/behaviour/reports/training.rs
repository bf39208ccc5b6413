//! Training and evaluation on data that do not fit together, and the habits of the command line.
