//! Where the files of a data set lie: folders, splits, names and links.
