//! Class tables: what the outputs of a head mean.
//!
//! A model's label is an index into its table. COCO checkpoints use the raw category id as label,
//! so their table has 91 slots with holes; other data has contiguous labels.

use serde::{Deserialize, Serialize};

/// The id of a category in a data set's annotations. Ids may have gaps; some tools write negative ones.
pub type CategoryId = i64;

/// A class of the data set a model was trained on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Category {
    /// The label: index in the head's output.
    pub label: usize,
    /// The id in the data set's annotations.
    pub id: CategoryId,
    /// The name, as people know it.
    pub name: String,
    /// Whether the class has instances, as things have; the sky and other stuff has none.
    #[serde(default = "thing", skip_serializing_if = "Clone::clone")]
    pub is_thing: bool,
}

const fn thing() -> bool {
    true
}

/// The classes of a head by label; labels without a class are holes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct ClassTable {
    slots: Vec<Option<Category>>,
}

/// The written form of a table.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    slots: usize,
    categories: Vec<Category>,
}

/// A class table that contradicts itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassTableError {
    /// More slots than any data set has, or none.
    #[error("a class table of {0} slots, expected 1 to {max}", max = ClassTable::MAX_SLOTS)]
    Slots(usize),
    /// A label outside the table.
    #[error("class `{name}` has label {label}, but the table has {slots} slots")]
    Label {
        /// Name of the class.
        name: String,
        /// Its label.
        label: usize,
        /// Size of the table.
        slots: usize,
    },
    /// Two classes with the same label.
    #[error("classes `{first}` and `{second}` share label {label}")]
    Duplicate {
        /// The earlier class.
        first: String,
        /// The later class.
        second: String,
        /// Their label.
        label: usize,
    },
}

impl ClassTable {
    /// Largest table accepted from a file.
    pub const MAX_SLOTS: usize = 100_000;

    /// Creates a table from its classes.
    ///
    /// # Errors
    /// A label that is taken twice or lies outside the slots, or an absurd number of slots.
    pub fn new(slots: usize, categories: Vec<Category>) -> Result<Self, ClassTableError> {
        if !(1..=Self::MAX_SLOTS).contains(&slots) {
            return Err(ClassTableError::Slots(slots));
        }
        let mut table = vec![None; slots];
        for category in categories {
            let Some(slot) = table.get_mut(category.label) else {
                return Err(ClassTableError::Label {
                    name: category.name,
                    label: category.label,
                    slots,
                });
            };
            if let Some(Category { name, .. }) = slot {
                return Err(ClassTableError::Duplicate {
                    first: name.clone(),
                    second: category.name,
                    label: category.label,
                });
            }
            *slot = Some(category);
        }
        Ok(Self { slots: table })
    }

    /// COCO's 80 detection classes in the 91 slots that the published checkpoints have: the label
    /// is the category id, slot 0 and ten ids are holes.
    #[must_use]
    pub fn coco() -> Self {
        let mut slots = vec![None; 91];
        for (id, name) in COCO {
            let label = id as usize;
            slots[label] = Some(Category {
                label,
                id: CategoryId::from(id),
                name: name.to_owned(),
                is_thing: true,
            });
        }
        Self { slots }
    }

    /// COCO's 80 things and 53 kinds of stuff in the 250 slots of the published panoptic checkpoints: the label is the
    /// category id.
    #[must_use]
    pub fn coco_panoptic() -> Self {
        let mut slots = Self::coco().slots;
        slots.resize(250, None);
        for (id, name) in COCO_STUFF {
            let label = id as usize;
            slots[label] = Some(Category {
                label,
                id: CategoryId::from(id),
                name: name.to_owned(),
                is_thing: false,
            });
        }
        Self { slots }
    }

    /// Creates classes `class 0`, `class 1`, ... for a head of which nothing else is known.
    #[must_use]
    pub fn numbered(slots: usize) -> Self {
        let name =
            |(label, id)| Category { label, id, name: format!("class {label}"), is_thing: true };
        Self { slots: (0..slots).zip(0..).map(|class| Some(name(class))).collect() }
    }

    /// Returns the number of labels, holes included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns whether the table has no labels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns the class of a label, if it has one.
    #[must_use]
    pub fn get(&self, label: usize) -> Option<&Category> {
        self.slots.get(label)?.as_ref()
    }

    /// Returns the class of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Category> {
        self.categories().find(|category| category.name == name)
    }

    /// Returns all classes in the order of their labels.
    pub fn categories(&self) -> impl Iterator<Item = &Category> {
        self.slots.iter().flatten()
    }
}

impl TryFrom<Table> for ClassTable {
    type Error = ClassTableError;

    fn try_from(table: Table) -> Result<Self, ClassTableError> {
        Self::new(table.slots, table.categories)
    }
}

impl From<ClassTable> for Table {
    fn from(table: ClassTable) -> Self {
        Self { slots: table.slots.len(), categories: table.slots.into_iter().flatten().collect() }
    }
}

/// Category ids and names of COCO 2017's detection annotations.
#[rustfmt::skip]
const COCO: [(u8, &str); 80] = [
    (1, "person"), (2, "bicycle"), (3, "car"), (4, "motorcycle"), (5, "airplane"), (6, "bus"),
    (7, "train"), (8, "truck"), (9, "boat"), (10, "traffic light"), (11, "fire hydrant"),
    (13, "stop sign"), (14, "parking meter"), (15, "bench"), (16, "bird"), (17, "cat"),
    (18, "dog"), (19, "horse"), (20, "sheep"), (21, "cow"), (22, "elephant"), (23, "bear"),
    (24, "zebra"), (25, "giraffe"), (27, "backpack"), (28, "umbrella"), (31, "handbag"),
    (32, "tie"), (33, "suitcase"), (34, "frisbee"), (35, "skis"), (36, "snowboard"),
    (37, "sports ball"), (38, "kite"), (39, "baseball bat"), (40, "baseball glove"),
    (41, "skateboard"), (42, "surfboard"), (43, "tennis racket"), (44, "bottle"),
    (46, "wine glass"), (47, "cup"), (48, "fork"), (49, "knife"), (50, "spoon"), (51, "bowl"),
    (52, "banana"), (53, "apple"), (54, "sandwich"), (55, "orange"), (56, "broccoli"),
    (57, "carrot"), (58, "hot dog"), (59, "pizza"), (60, "donut"), (61, "cake"), (62, "chair"),
    (63, "couch"), (64, "potted plant"), (65, "bed"), (67, "dining table"), (70, "toilet"),
    (72, "tv"), (73, "laptop"), (74, "mouse"), (75, "remote"), (76, "keyboard"),
    (77, "cell phone"), (78, "microwave"), (79, "oven"), (80, "toaster"), (81, "sink"),
    (82, "refrigerator"), (84, "book"), (85, "clock"), (86, "vase"), (87, "scissors"),
    (88, "teddy bear"), (89, "hair drier"), (90, "toothbrush"),
];

/// Category ids and names of the stuff in COCO 2017's panoptic annotations.
#[rustfmt::skip]
const COCO_STUFF: [(u8, &str); 53] = [
    (92, "banner"), (93, "blanket"), (95, "bridge"), (100, "cardboard"), (107, "counter"), (109, "curtain"),
    (112, "door-stuff"), (118, "floor-wood"), (119, "flower"), (122, "fruit"), (125, "gravel"), (128, "house"),
    (130, "light"), (133, "mirror-stuff"), (138, "net"), (141, "pillow"), (144, "platform"), (145, "playingfield"),
    (147, "railroad"), (148, "river"), (149, "road"), (151, "roof"), (154, "sand"), (155, "sea"), (156, "shelf"),
    (159, "snow"), (161, "stairs"), (166, "tent"), (168, "towel"), (171, "wall-brick"), (175, "wall-stone"),
    (176, "wall-tile"), (177, "wall-wood"), (178, "water-other"), (180, "window-blind"), (181, "window-other"),
    (184, "tree-merged"), (185, "fence-merged"), (186, "ceiling-merged"), (187, "sky-other-merged"),
    (188, "cabinet-merged"), (189, "table-merged"), (190, "floor-other-merged"), (191, "pavement-merged"),
    (192, "mountain-merged"), (193, "grass-merged"), (194, "dirt-merged"), (195, "paper-merged"),
    (196, "food-other-merged"), (197, "building-other-merged"), (198, "rock-merged"), (199, "wall-other-merged"),
    (200, "rug-merged"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panoptic_classes_are_things_up_to_90_and_stuff_above() {
        let table = ClassTable::coco_panoptic();
        assert_eq!((table.len(), table.categories().count()), (250, 133));
        for class in table.categories() {
            assert_eq!(class.is_thing, class.id <= 90, "{}", class.name);
            assert_eq!(table.find(&class.name).unwrap().label, class.label, "{}", class.name);
        }
        let json = serde_json::to_string(&table).unwrap();
        assert_eq!(json.matches("is_thing").count(), 53, "only stuff says so");
        assert_eq!(serde_json::from_str::<ClassTable>(&json).unwrap(), table);
    }

    #[test]
    fn coco_keeps_its_holes() {
        let coco = ClassTable::coco();
        assert_eq!(coco.len(), 91);
        assert_eq!(coco.categories().count(), 80);
        assert_eq!(coco.get(90).unwrap().name, "toothbrush");
        assert_eq!(coco.find("traffic light").unwrap().id, 10);
        for hole in [0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83] {
            assert!(coco.get(hole).is_none(), "slot {hole}");
        }
    }

    #[test]
    fn tables_round_trip_through_json_and_contradictions_are_refused() {
        let coco = ClassTable::coco();
        let json = serde_json::to_string(&coco).unwrap();
        assert_eq!(serde_json::from_str::<ClassTable>(&json).unwrap(), coco);
        for (json, message) in [
            (r#"{"slots":0,"categories":[]}"#, "0 slots"),
            (r#"{"slots":1,"categories":[{"label":1,"id":1,"name":"cat"}]}"#, "label 1"),
            (
                r#"{"slots":1,"categories":[{"label":0,"id":1,"name":"cat"},{"label":0,"id":2,"name":"dog"}]}"#,
                "share label 0",
            ),
        ] {
            let error = serde_json::from_str::<ClassTable>(json).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
