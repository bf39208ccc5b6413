//! What the files of a data set say: labels, classes, ids, encodings and turned photographs.
