//! Places the label plates: beside their box, inside the image, and off each other if there is
//! room. If there is none, the later plates are left out: they would hide more than they tell.

/// Pixels from `x0`, `y0` up to but not including `x1`, `y1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) x0: i64,
    pub(super) y0: i64,
    pub(super) x1: i64,
    pub(super) y1: i64,
}

impl Rect {
    pub(super) fn new(x: i64, y: i64, width: i64, height: i64) -> Self {
        Self { x0: x, y0: y, x1: x + width, y1: y + height }
    }

    pub(super) fn width(self) -> i64 {
        self.x1 - self.x0
    }

    pub(super) fn height(self) -> i64 {
        self.y1 - self.y0
    }

    /// Returns the same rectangle with every edge moved inwards, or outwards if negative.
    pub(super) fn inset(self, by: i64) -> Self {
        Self { x0: self.x0 + by, y0: self.y0 + by, x1: self.x1 - by, y1: self.y1 - by }
    }

    fn area(self) -> i64 {
        self.width() * self.height()
    }

    /// Returns the number of pixels in both.
    pub(super) fn overlap(self, other: Self) -> i64 {
        let width = self.x1.min(other.x1) - self.x0.max(other.x0);
        let height = self.y1.min(other.y1) - self.y0.max(other.y0);
        width.max(0) * height.max(0)
    }
}

/// Puts plates into an image one after the other.
pub(super) struct Layout {
    width: i64,
    height: i64,
    placed: Vec<Rect>,
    /// Pixels that plates may still take.
    room: i64,
}

impl Layout {
    /// Creates a layout that gives at most a third of the image to plates.
    pub(super) fn new(width: u32, height: u32) -> Self {
        let (width, height) = (i64::from(width), i64::from(height));
        Self { width, height, placed: Vec::new(), room: width * height / 3 }
    }

    /// Finds the place of a plate of this size for this box: on its top edge if that is free, else
    /// the place with the least overlap among the corners of the box and the rows inside it.
    ///
    /// `None` if the plate is larger than the image, would lie half on other plates, or the
    /// image is full.
    pub(super) fn place(&mut self, bounds: Rect, width: i64, height: i64) -> Option<Rect> {
        if width > self.width || height > self.height || width * height > self.room {
            return None;
        }
        let (left, right) = (bounds.x0, bounds.x1 - width);
        let (above, below) = (bounds.y0 - height, bounds.y1);
        let (top, bottom) = (bounds.y0, bounds.y1 - height);
        let corners = [(left, above), (left, top), (right, above), (right, top)];
        let lower = [(left, below), (left, bottom), (right, below), (right, bottom)];
        // Always inside, for a box so flat and an image so low that nothing else is.
        let last = (left, top.clamp(0, self.height - height));
        let rows = (1..8).map(|row| (left, top + row * height)).take_while(|(_, y)| *y <= bottom);

        let mut best: Option<(i64, Rect)> = None;
        for (x, y) in corners.into_iter().chain(lower).chain(rows).chain([last]) {
            if !(0..=self.height - height).contains(&y) {
                continue;
            }
            let plate = Rect::new(x.clamp(0, self.width - width), y, width, height);
            let covered: i64 = self.placed.iter().map(|other| plate.overlap(*other)).sum();
            if best.is_none_or(|(least, _)| covered < least) {
                best = Some((covered, plate));
            }
            if covered == 0 {
                break;
            }
        }
        let (covered, plate) = best?;
        if covered * 2 > plate.area() {
            return None;
        }
        self.room -= plate.area();
        self.placed.push(plate);
        Some(plate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plates_stay_inside_the_image_and_off_each_other() {
        let mut layout = Layout::new(200, 100);
        let bounds = Rect::new(10, 5, 150, 90);
        let plates: Vec<_> = (0..6).filter_map(|_| layout.place(bounds, 60, 16)).collect();
        assert_eq!(plates[0], Rect::new(10, 5, 60, 16), "no room above: inside the box");
        for (i, a) in plates.iter().enumerate() {
            assert!(a.x0 >= 0 && a.y0 >= 0 && a.x1 <= 200 && a.y1 <= 100, "{a:?}");
            for b in &plates[..i] {
                assert_eq!(a.overlap(*b), 0, "{a:?} on {b:?}");
            }
        }
        assert_eq!(layout.place(bounds, 201, 16), None, "wider than the image");
        let edge = Layout::new(200, 100).place(Rect::new(190, 50, 10, 20), 60, 16);
        assert_eq!(edge, Some(Rect::new(140, 34, 60, 16)));
        let low = Layout::new(1000, 50).place(Rect::new(5, 20, 300, 10), 60, 48);
        assert_eq!(low, Some(Rect::new(5, 2, 60, 48)), "neither above nor below has room");
    }

    #[test]
    fn plates_without_room_are_left_out() {
        let mut layout = Layout::new(200, 100);
        let flat = Rect::new(50, 40, 60, 16);
        let plates = (0..20).filter_map(|_| layout.place(flat, 60, 16)).count();
        assert_eq!(plates, 3, "above, inside, below");
        let mut layout = Layout::new(200, 100);
        let mut place = |i: i64| layout.place(Rect::new(5 * i, 7 * i % 60, 80, 40), 60, 16);
        let taken: i64 = (0..30).filter_map(&mut place).map(Rect::area).sum();
        assert!(taken <= 200 * 100 / 3, "{taken}");
    }
}
