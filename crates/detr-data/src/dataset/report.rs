//! The kinds of problems that a data set can have, and how often each was found. Readers count what
//! they meet; the doctor adds what takes a closer look.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// The severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Probably not meant; everything is used.
    Warning,
    /// Something is left out: an object, or an image.
    Error,
    /// The structure is broken; the data set is refused.
    Fatal,
}

/// Problems found while reading, and how much was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReadReport {
    /// The format and path of each source.
    pub sources: Vec<String>,
    /// The number of times that each kind of problem was met.
    pub problems: BTreeMap<Problem, Occurrences>,
}

/// The number of times that a problem occurred, and its first places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Occurrences {
    /// Number of occurrences.
    pub count: usize,
    /// The first [`Occurrences::EXAMPLES`] of them: ids, file names, or a place in a file.
    pub first: Vec<String>,
}

impl Occurrences {
    /// Number of examples kept.
    pub const EXAMPLES: usize = 5;
}

impl ReadReport {
    /// Counts an occurrence.
    pub fn add(&mut self, problem: Problem, example: impl fmt::Display) {
        let occurrences = self.problems.entry(problem).or_default();
        occurrences.count += 1;
        if occurrences.first.len() < Occurrences::EXAMPLES {
            occurrences.first.push(example.to_string());
        }
    }

    /// Returns the number of occurrences of a problem.
    #[must_use]
    pub fn count(&self, problem: Problem) -> usize {
        self.problems.get(&problem).map_or(0, |found| found.count)
    }

    /// Returns the worst severity met.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.problems.keys().map(|problem| problem.severity()).max()
    }

    /// Adds the counts of another report.
    pub fn merge(&mut self, other: Self) {
        self.sources.extend(other.sources);
        for (problem, found) in other.problems {
            let mine = self.problems.entry(problem).or_default();
            mine.count += found.count;
            let room = Occurrences::EXAMPLES.saturating_sub(mine.first.len());
            mine.first.extend(found.first.into_iter().take(room));
        }
    }
}

macro_rules! problems {
    ($($(#[doc = $doc:literal])+ $name:ident, $severity:ident, $title:literal, $hint:literal;)+) => {
        /// A kind of problem.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Problem {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Problem {
            /// Returns the severity.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self {
                    $(Self::$name => Severity::$severity,)+
                }
            }

            /// Returns the name of the problem, in a few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)+
                }
            }

            /// Returns the meaning of the problem and a remedy.
            #[must_use]
            pub fn hint(self) -> &'static str {
                match self {
                    $(Self::$name => $hint,)+
                }
            }

            /// Every kind, structure first.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
        }
    };
}

problems! {
    /// A record without a required field, or with one of the wrong type.
    MalformedRecord, Fatal, "malformed record",
        "correct the field that the message names; ids are whole numbers, boxes four numbers";
    /// A file name that leads out of the data set.
    UnsafeFileName, Fatal, "file name that leads out of the data set",
        "use names relative to the image folder, without `..`; to read files outside of the data set's folder give \
         `--follow-symlinks`, or `follow_symlinks = true` to the source in the settings of `detr train`";
    /// Two images with one id.
    DuplicateImageId, Fatal, "image id used more than once",
        "give every image an id of its own; annotations cannot be told apart otherwise";
    /// Two categories with one id.
    DuplicateCategoryId, Fatal, "category id used more than once",
        "give every category an id of its own";
    /// Two categories with one name.
    DuplicateCategoryName, Warning, "category name used more than once",
        "merge them with the class map, or rename one";
    /// An annotation of an image that is not listed.
    UnknownImage, Error, "annotation of an image that is not listed",
        "these annotations are left out; add the images or remove the annotations";
    /// An annotation with a category that is not listed.
    UnknownCategory, Error, "annotation with a category that is not listed",
        "these annotations are left out; add the category or correct the id";
    /// Two annotations with one id.
    DuplicateObjectId, Warning, "annotation id used more than once",
        "evaluation tools match objects by id; give every annotation one of its own";
    /// An image whose id an earlier source has.
    RenumberedImage, Info, "image whose id an earlier source has",
        "it has a new id in the data set; results that go by the old one cannot be scored";
    /// A category with another id than in an earlier source, or an id that is taken there.
    RenumberedCategory, Info, "category whose id differs from an earlier source's",
        "it has the earlier source's id, or a new one; classes are joined by name";
    /// An annotation id that is a text.
    TextId, Info, "annotation id that is a text",
        "it has a number in the data set; nothing depends on the ids of annotations";
    /// An annotation id of 0.
    ZeroId, Warning, "annotation id 0",
        "pycocotools takes annotation id 0 for `no match`; count from 1";
    /// An id below 0.
    NegativeId, Warning, "negative id",
        "many tools refuse negative ids; count from 1";
    /// No area.
    MissingArea, Warning, "annotation without an area",
        "the area of the box is used; small, medium and large objects are told apart by it";
    /// A stated area that cannot be that of the box.
    AreaDiffers, Warning, "area that contradicts its box",
        "small, medium and large objects are told apart by the area; it is neither 0 nor larger than the box";
    /// No `iscrowd`.
    MissingCrowd, Info, "annotation without `iscrowd`",
        "0 is assumed";
    /// A box with NaN or an infinite number.
    NonFiniteBox, Error, "box with a number that is not finite",
        "these annotations are left out; correct or remove them";
    /// A box of width or height 0.
    ZeroSizeBox, Error, "box without area",
        "these boxes are not used for training; correct or remove them";
    /// A box of negative width or height.
    NegativeSizeBox, Error, "box of negative size",
        "these boxes are not used for training; a box is left, top, width, height";
    /// A box that does not touch its image.
    BoxOutsideImage, Error, "box outside of its image",
        "these boxes are not used for training; check the image's size and the units of the boxes";
    /// A box that reaches over the border of its image by more than a pixel.
    BoxBeyondImage, Warning, "box that reaches over the border of its image",
        "it is clamped to the image for training";
    /// Relative boxes of a photograph whose EXIF orientation is not applied.
    TurnedLabels, Error, "relative boxes of a photograph that its EXIF orientation turns",
        "they were drawn on the upright view, as all tools show it, and miss the objects of the stored pixels; \
         apply the orientation (--apply-exif, or `data.apply_exif` of a training)";
    /// A photograph whose EXIF orientation is not applied.
    TurnedImage, Warning, "photograph that its EXIF orientation turns",
        "boxes are taken for those of the stored pixels; if they were drawn on the upright view, apply the \
         orientation (--apply-exif, or `data.apply_exif` of a training)";
    /// Boxes that look like corners.
    CornersAsSize, Error, "boxes that look like corners instead of left, top, width, height",
        "convert x2, y2 to width = x2 - x1, height = y2 - y1";
    /// A polygon with fewer than three points, an odd count or numbers that are not finite.
    BadPolygon, Error, "polygon that has no inside",
        "the object keeps its box and loses this part of its outline";
    /// A run-length code that does not fit.
    BadRle, Error, "run-length code that does not fit its image",
        "the object keeps its box and loses its outline";
    /// A picture of segments that is no 8-bit colour PNG of its image's size.
    BadSegmentPicture, Fatal, "picture of segments that cannot be used",
        "write the ids as an RGB PNG with 8 bits a channel, id = R + 256 G + 65536 B, in the size of the image";
    /// A segment without a pixel in its picture.
    SegmentWithoutPixels, Fatal, "segment that its picture does not have",
        "remove it from `segments_info`, or write its id into the PNG";
    /// An id in a picture that is no segment's.
    UnlistedSegment, Fatal, "id in a picture of segments that `segments_info` does not have",
        "list the segment, or make its pixels 0 (black), which is no segment";
    /// Two segments of an image with one id, or one with an id that no pixel can have.
    BadSegmentId, Fatal, "segment whose id cannot stand for it",
        "give every segment of an image an id of its own from 1 to 16777215; 0 is no segment";
    /// A listed file that does not exist.
    MissingFile, Error, "image file that is not there",
        "copy the file, or give the folder of the images";
    /// An absolute name of another place, whose end is the name of a file below the data set's folder.
    NameOfOtherPlace, Info, "file found by the end of its absolute name",
        "the name is of another place; what the data set's folder has under its end is read";
    /// An image that is not named as its XML file says, but like the XML file itself.
    NamedLikeXml, Info, "image found by the name of its XML file",
        "its `<filename>` leads nowhere; the image that is named like the XML file is read";
    /// A name that is not UTF-8.
    NameNotUtf8, Warning, "file whose name is not UTF-8",
        "it is read; what is written of it has another name, so rename the file";
    /// A file that cannot be decoded.
    UnreadableImage, Error, "image that cannot be read",
        "training skips such images up to a limit; copy or convert them again";
    /// A size that differs between annotations and file.
    SizeDiffers, Warning, "stated size differs from the file, in the same ratio",
        "the file's size counts; are the boxes of another resolution?";
    /// A size whose ratio differs too.
    AspectDiffers, Error, "stated size differs from the file, in another ratio",
        "is the image turned or cropped? (EXIF orientation is applied with --apply-exif only)";
    /// One file listed twice.
    DuplicateFileName, Warning, "file listed more than once",
        "merge the annotations of the two entries";
    /// Files of equal content.
    DuplicateContent, Warning, "files of identical content",
        "copies count twice in training, and leak when they are in training and validation data";
    /// An image without a label file.
    MissingLabels, Info, "image without a label file",
        "it is taken as an image without objects";
    /// A label file without an image.
    OrphanLabels, Warning, "label file without an image",
        "nothing is read from it; copy the image or remove the file";
    /// A region without class that its format tells to ignore.
    IgnoredRegion, Info, "region to be ignored, without a class",
        "KITTI's DontCare; it is left out";
    /// An object with keypoints.
    Keypoints, Info, "object with keypoints, which are not read",
        "its box is used; a converted data set is without them";
    /// A field of the annotations that is not read.
    OtherField, Info, "field that is not read",
        "training does not need it, and a converted data set is without it";
    /// No image at all.
    NoImages, Fatal, "no images",
        "is this the right folder, split or filter?";
    /// No object at all.
    NoObjects, Error, "no objects",
        "there is nothing to learn; is this the right folder, split or filter?";
    /// Only crowds.
    AllCrowd, Error, "only crowds",
        "crowds are ignored in training; there is nothing to learn";
    /// An image without objects.
    EmptyImage, Info, "image without objects",
        "it is used as an example of background";
    /// More objects than a model has queries.
    TooManyObjects, Warning, "image with more objects than the model has queries",
        "at most one object per query can be found; raise the number of queries or tile the images";
    /// A category without objects.
    UnusedCategory, Warning, "category without objects",
        "drop it with the class map, or add examples";
    /// A category with very few objects.
    RareCategory, Warning, "category with very few objects",
        "such classes are hardly learned; add examples or merge classes";
    /// An object that is smaller than a cell of the feature map after resizing.
    TinyObject, Info, "object smaller than 8 pixels at the model's input size",
        "DETR is weak on these; Deformable DETR, or tiles of the images, help";
    /// Two equal boxes of one category on an image.
    DuplicateBox, Warning, "box repeated on the same image with the same category",
        "remove one; two queries would have to learn the same object";
    /// An image of extreme shape.
    ExtremeAspect, Warning, "image more than 8 times longer than wide",
        "its short side becomes very small after resizing; cut it into tiles";
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        })
    }
}
